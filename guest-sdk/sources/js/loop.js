// Promises that can be seen through before a call returns. The host calls a handler and takes what it returns; the
// engine's own promises would only be looked at afterwards. So async functions are compiled to generators (build.mjs),
// and wait on these.

const jobs = [];
const idle = [];

/// `work` is called when nothing else is to be done, and says whether it did anything; `forget` when a call is over.
export const whenIdle = (work, forget) => idle.push({ work, forget });

/// What a promise comes to; anything else is returned as it is. Throws what the promise is rejected with. What else
/// was begun and is not waited for ends here: it would only disturb the next call.
export function settle(value) {
  try {
    return typeof value?.then === 'function' ? wait(value) : value;
  } finally {
    jobs.length = 0;
    for (const { forget } of idle) forget();
  }
}

function wait(promise) {
  let state = 'pending';
  let result;
  promise.then(
    (found) => ([state, result] = ['fulfilled', found]),
    (error) => ([state, result] = ['rejected', error]),
  );
  do {
    for (let job = jobs.shift(); job; job = state === 'pending' ? jobs.shift() : undefined) job();
  } while (state === 'pending' && (jobs.length > 0 || idle.some(({ work }) => work())));
  if (state === 'pending') throw new Error('the handler waits for something that never comes');
  if (state === 'rejected') throw result;
  return result;
}

const PENDING = 0;
const FULFILLED = 1;
const REJECTED = 2;

class LoopPromise {
  #state = PENDING;
  #value;
  #waiting = [];

  constructor(executor) {
    if (typeof executor !== 'function') throw new TypeError('a promise needs a function');
    const { resolve, reject } = this.#resolvers();
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  /// Two functions of which only the first call counts.
  #resolvers() {
    let called = false;
    const once = (work) => (value) => {
      if (called) return;
      called = true;
      work(value);
    };
    return { resolve: once((value) => this.#resolve(value)), reject: once((error) => this.#settle(REJECTED, error)) };
  }

  #resolve(value) {
    if (value === this) return this.#settle(REJECTED, new TypeError('a promise cannot wait for itself'));
    if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return this.#settle(FULFILLED, value);
    let then;
    try {
      then = value.then;
    } catch (error) {
      return this.#settle(REJECTED, error);
    }
    if (typeof then !== 'function') return this.#settle(FULFILLED, value);
    jobs.push(() => {
      const { resolve, reject } = this.#resolvers();
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  #settle(state, value) {
    [this.#state, this.#value] = [state, value];
    for (const wake of this.#waiting) jobs.push(wake);
    this.#waiting = [];
  }

  then(fulfilled, rejected) {
    return new LoopPromise((resolve, reject) => {
      const wake = () => {
        const react = this.#state === FULFILLED ? fulfilled : rejected;
        if (typeof react !== 'function') return this.#state === FULFILLED ? resolve(this.#value) : reject(this.#value);
        try {
          resolve(react(this.#value));
        } catch (error) {
          reject(error);
        }
      };
      if (this.#state === PENDING) this.#waiting.push(wake);
      else jobs.push(wake);
    });
  }

  catch(rejected) {
    return this.then(undefined, rejected);
  }

  finally(work) {
    return this.then(
      (value) => LoopPromise.resolve(work()).then(() => value),
      (error) => LoopPromise.resolve(work()).then(() => Promise.reject(error)),
    );
  }

  static resolve(value) {
    return value instanceof LoopPromise ? value : new LoopPromise((resolve) => resolve(value));
  }

  static reject(error) {
    return new LoopPromise((_, reject) => reject(error));
  }

  static withResolvers() {
    const made = {};
    made.promise = new LoopPromise((resolve, reject) => Object.assign(made, { resolve, reject }));
    return made;
  }

  static try(work, ...values) {
    return new LoopPromise((resolve) => resolve(work(...values)));
  }

  static race(values) {
    return new LoopPromise((resolve, reject) => {
      for (const value of values) LoopPromise.resolve(value).then(resolve, reject);
    });
  }

  static all(values) {
    return collect(values, (value, index, done, reject) => value.then((found) => done(index, found), reject));
  }

  static allSettled(values) {
    return collect(values, (value, index, done) =>
      value.then(
        (found) => done(index, { status: 'fulfilled', value: found }),
        (reason) => done(index, { status: 'rejected', reason }),
      ),
    );
  }

  static any(values) {
    const failed = collect(values, (value, index, done, reject) => value.then(reject, (error) => done(index, error)));
    // What is found first is thrown by `collect`, and what all failed with is its result.
    return failed.then(
      (errors) => LoopPromise.reject(Object.assign(new Error('every promise was rejected'), { name: 'AggregateError', errors })),
      (found) => found,
    );
  }

  get [Symbol.toStringTag]() {
    return 'Promise';
  }
}

/// A promise of as many results as there are values.
function collect(values, wait) {
  return new LoopPromise((resolve, reject) => {
    const results = [];
    let left = 1;
    const done = (index, result) => {
      results[index] = result;
      if (--left === 0) resolve(results);
    };
    let index = 0;
    for (const value of values) {
      left++;
      results.push(undefined);
      wait(LoopPromise.resolve(value), index++, done, reject);
    }
    if (--left === 0) resolve(results);
  });
}

globalThis.Promise = LoopPromise;
