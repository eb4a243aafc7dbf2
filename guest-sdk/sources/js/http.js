// `fetch`, as far as a handler needs it: requests that the route permits (`permissions.http`), answers as a whole.

import { send, sendAll } from 'sandbar:handler/http@0.1.0';

import { whenIdle } from './loop.js';
import { decodeUtf8, encodeUtf8 } from './utf8.js';

/// Why there is no answer. `code` is denied, invalid, failed or too-large. Thrown out of `handle` it is a failure: what
/// may go well another time is tried again, the rest is a dead letter.
export class HttpError extends TypeError {
  constructor(url, { tag, val }) {
    super(tag === 'too-large' ? `${url}: the answers have more than ${val} bytes` : `${url}: ${val}`);
    this.name = 'HttpError';
    this.code = tag;
    this.tag = tag === 'failed' ? 'retry' : 'reject';
    this.val = this.message;
  }
}

/// Names are compared without regard to capitals.
export class Headers {
  #pairs = [];

  constructor(init = []) {
    const pairs = typeof init[Symbol.iterator] === 'function' ? init : Object.entries(init);
    for (const [name, value] of pairs) this.append(name, value);
  }

  append(name, value) {
    this.#pairs.push([String(name).toLowerCase(), String(value)]);
  }

  set(name, value) {
    this.delete(name);
    this.append(name, value);
  }

  delete(name) {
    this.#pairs = this.#pairs.filter(([key]) => key !== String(name).toLowerCase());
  }

  get(name) {
    const found = this.#pairs.filter(([key]) => key === String(name).toLowerCase());
    return found.length === 0 ? null : found.map(([, value]) => value).join(', ');
  }

  getSetCookie() {
    return this.#pairs.filter(([key]) => key === 'set-cookie').map(([, value]) => value);
  }

  has(name) {
    return this.get(name) !== null;
  }

  forEach(work) {
    for (const [name, value] of this.#pairs) work(value, name, this);
  }

  [Symbol.iterator]() {
    return this.#pairs[Symbol.iterator]();
  }

  entries() {
    return this.#pairs[Symbol.iterator]();
  }

  keys() {
    return this.#pairs.map(([name]) => name)[Symbol.iterator]();
  }

  values() {
    return this.#pairs.map(([, value]) => value)[Symbol.iterator]();
  }
}

/// An answer. Its body has come already, and may be read more than once.
export class Response {
  #body;

  constructor(url, { status, headers, body }) {
    this.url = url;
    this.status = status;
    this.ok = status >= 200 && status < 300;
    this.headers = new Headers(headers);
    this.#body = body;
  }

  bytes() {
    return Promise.resolve(this.#body);
  }

  arrayBuffer() {
    const { buffer, byteOffset, byteLength } = this.#body;
    return Promise.resolve(buffer.slice(byteOffset, byteOffset + byteLength));
  }

  text() {
    return new Promise((resolve) => resolve(decodeUtf8(this.#body)));
  }

  json() {
    return this.text().then(JSON.parse);
  }
}

/// Requests that wait until the handler has nothing else to do: what was asked for at once is sent at once.
let waiting = [];

/// Asks over HTTP. Options: method, headers, body (text or bytes), timeoutMs. Redirects are not followed: they are
/// answers with a `location`.
export function fetch(url, { method = 'GET', headers = {}, body, timeoutMs } = {}) {
  return new Promise((resolve, reject) => {
    const request = {
      method: String(method).toUpperCase(),
      url: String(url),
      headers: [...new Headers(headers)],
      body: bytes(body),
      timeoutMs: timeoutMs === undefined ? undefined : Math.ceil(timeoutMs),
    };
    waiting.push({ request, resolve, reject });
  });
}

function bytes(body) {
  if (body === undefined || body === null) return new Uint8Array(0);
  if (body instanceof Uint8Array) return body;
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  if (typeof body === 'string') return encodeUtf8(body);
  throw new TypeError('a body is text or bytes: JSON.stringify(…) makes text of other things');
}

whenIdle(sendWaiting, () => {
  waiting = [];
});

function sendWaiting() {
  const asked = waiting;
  waiting = [];
  if (asked.length === 1) one(asked[0]);
  else if (asked.length > 1) all(asked);
  return asked.length > 0;
}

function one({ request, resolve, reject }) {
  try {
    resolve(new Response(request.url, send(request)));
  } catch (error) {
    reject(refused(request.url, error));
  }
}

function all(asked) {
  const answers = sendAll(asked.map(({ request }) => request));
  asked.forEach(({ request, resolve, reject }, at) => {
    const { tag, val } = answers[at];
    if (tag === 'ok') resolve(new Response(request.url, val));
    else reject(new HttpError(request.url, val));
  });
}

function refused(url, error) {
  const said = error?.payload ?? error;
  return said?.tag ? new HttpError(url, said) : error;
}
