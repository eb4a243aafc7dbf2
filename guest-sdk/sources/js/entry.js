// What the host calls: the handler's functions, async ones seen through. `handler` is the author's module (build.mjs).

import { settle } from './loop.js';
import { fetch, Headers, Response } from './http.js';
import * as handler from 'handler';

Object.assign(globalThis, { fetch, Headers, Response });

export function configure() {
  if (handler.configure) settle(handler.configure());
}

export function handle(reading) {
  // A handler that passes nothing on need not say so.
  return settle(handler.handle(reading)) ?? [];
}
