// What loop.js and lower.js do, in node: run by sdks.rs. Prints `ok`.

import assert from 'node:assert';

import { lower, NAME, run } from '../../guest-sdk/script/lower.js';
import { settle } from '../../guest-sdk/sources/js/loop.js';

const outcome = (make) => {
  try {
    return settle(make());
  } catch (error) {
    return `thrown: ${error.message ?? error}`;
  }
};
const check = (make, expected) => assert.deepEqual(outcome(make), expected, String(make));

// The loop's promises: `Promise` is theirs from the import on.
const never = () => new Promise(() => {});
check(() => 5, 5);
check(() => Promise.resolve(5).then((value) => value + 1), 6);
check(never, 'thrown: the handler waits for something that never comes');
check(() => Promise.reject(new Error('x')).catch((error) => error.message).finally(() => 9), 'x');
check(() => Promise.reject(new Error('x')).finally(() => 9), 'thrown: x');
check(() => Promise.all([1, Promise.resolve(2), { then: (resolve) => resolve(3) }]), [1, 2, 3]);
check(() => Promise.all([]), []);
check(() => Promise.all([never(), Promise.reject('no')]), 'thrown: no');
check(() => Promise.allSettled([1, Promise.reject('no')]), [{ status: 'fulfilled', value: 1 }, { status: 'rejected', reason: 'no' }]);
check(() => Promise.any([Promise.reject('no'), Promise.resolve(7)]), 7);
check(() => Promise.any([Promise.reject('no')]).catch((error) => [error.name, error.errors]), ['AggregateError', ['no']]);
check(() => Promise.race([never(), Promise.resolve(8)]), 8);
check(() => Promise.try((a) => a * 2, 4), 8);
check(() => {
  const made = Promise.withResolvers();
  made.resolve(3);
  made.reject('late');
  return made.promise;
}, 3);
check(() => {
  const made = Promise.withResolvers();
  made.resolve(made.promise);
  return made.promise;
}, 'thrown: a promise cannot wait for itself');
check(() => {
  const order = [];
  Promise.resolve().then(() => order.push(1)).then(() => order.push(3));
  return Promise.resolve().then(() => order.push(2)).then(() => order.push(4)).then(() => order);
}, [1, 2, 3, 4]);

// Scripts: the same text without `async` and `await`, line by line.
const runs = (text, expected) => {
  const lowered = lower(text);
  assert.equal(lowered.split('\n').length, text.split('\n').length, lowered);
  check(() => new Function(NAME, `'use strict';${lowered}`)(run), expected);
};
runs('return 1;', 1);
runs('async function f(x) {\n  return (await x) + 1;\n}\nreturn f(f(1));', 3);
runs('const f = async (x) => await x, g = async x => ({ x: await f(x) });\nreturn g(2);', { x: 2 });
runs('const f = async () => {};\nreturn f();', undefined);
runs('const o = { n: 3, async m(a) { return this.n + arguments.length + await a; } };\nreturn o.m(1, 2);', 6);
runs('class A { static async async() { return await 1; } async m() { return (await A.async()) + 1; } }\nreturn new A().m();', 2);
runs('async function f() {\n  try { await Promise.reject(new Error("in")); } catch (error) { return error.message; }\n}\nreturn f();', 'in');
runs('async function f() { return Promise.all([1, 2].map(async (x) => 2 * await x)); }\nreturn f();', [2, 4]);
runs('async function f() { for (const x of [1, 2]) { if (await x === 2) return `${await x} async`; } }\nreturn f();', '2 async');
runs('const text = "async await"; // async\nreturn /async/.test(text) ? text : 0;', 'async await');
runs('async function f() { throw new Error("out"); }\nreturn f();', 'thrown: out');
assert.equal(lower('async function ( {'), 'async function ( {');
assert.throws(() => lower('async function* f() {}'), /async generators/);
console.log('ok');
