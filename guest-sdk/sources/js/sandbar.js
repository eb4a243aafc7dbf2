// What a handler in JavaScript needs of Sandbar: payloads, outputs, failures, settings, state and the log.
// `sandbar.d.ts` has the types; the contract itself is in wit/.

import { get as setting, getAll } from 'wasi:config/store@0.2.0-rc.1';
import { log as write } from 'wasi:logging/logging@0.1.0-draft';
import { delete as deleteBytes, get as getBytes, names, set as setBytes } from 'sandbar:handler/state@0.1.0';

import { fetch, Headers, HttpError, Response } from './http.js';
import { decodeUtf8, encodeUtf8 } from './utf8.js';

export { decodeUtf8, encodeUtf8, fetch, Headers, HttpError, Response };

/// A failure to throw: it never succeeds, and the reading becomes a dead letter with this text.
export const reject = (cause) => ({ tag: 'reject', val: String(cause) });

/// A failure to throw: it may succeed later, and the host tries again.
export const retry = (cause) => ({ tag: 'retry', val: String(cause) });

/// The payload as text; rejects what is no UTF-8.
export function text(reading) {
  try {
    return decodeUtf8(reading.payload);
  } catch (error) {
    throw reject(`the payload is not UTF-8 text: ${error.message}`);
  }
}

/// The payload as JSON; rejects what is none.
export function json(reading) {
  try {
    return JSON.parse(text(reading));
  } catch (error) {
    throw error.tag ? error : reject(`the payload is not JSON: ${error.message}`);
  }
}

/// The first attribute of that name.
export const attribute = (reading, name) => reading.attributes.find(([key]) => key === name)?.[1];

/// To the route's sinks, and to every route whose filter the topic matches. Bytes and text go as they are, anything
/// else as JSON. Options: device, contentType, attributes (an object or pairs).
export const message = (topic, body, options = {}) => ({ tag: 'message', val: build(topic, body, options) });

/// To the sender of the reading. Options as a message's, and status: of the HTTP response.
export function reply(body, options = {}) {
  const val = build('', body, options);
  if (options.status !== undefined) val.attributes.push(['http.status', String(options.status)]);
  return { tag: 'reply', val };
}

/// For a device to do.
export function command(device, name, body = '', options = {}) {
  const { contentType, payload } = build('', body, options);
  return { tag: 'command', val: { device, name, contentType, payload } };
}

function build(topic, body, { device, contentType, attributes = [] }) {
  const [natural, payload] = encode(body);
  const pairs = Array.isArray(attributes) ? attributes : Object.entries(attributes);
  return { topic, device, contentType: contentType ?? natural, attributes: pairs.map(([key, value]) => [key, String(value)]), payload };
}

function encode(body) {
  if (body instanceof Uint8Array) return ['application/octet-stream', body];
  if (typeof body === 'string') return ['text/plain', encodeUtf8(body)];
  return ['application/json', encodeUtf8(JSON.stringify(body))];
}

/// The route's settings. Read them in `configure`: what is thrown there refuses the deployment.
export const config = {
  all: () => Object.fromEntries(getAll()),
  get: (name, otherwise) => setting(name) ?? otherwise,
  number(name, otherwise) {
    const value = setting(name);
    if (value === undefined || value === null) {
      if (otherwise === undefined) throw `setting \`${name}\` is missing`;
      return otherwise;
    }
    const number = Number(value);
    if (value.trim() === '' || !Number.isFinite(number)) throw `setting \`${name}\` is "${value}", not a number`;
    return number;
  },
  required(name) {
    const value = setting(name);
    if (value === undefined || value === null) throw `setting \`${name}\` is missing`;
    return value;
  },
};

/// Values that last, of this route and key (by default: of this device), as JSON. They change together with the
/// outputs, or not at all.
export const state = {
  get(name) {
    const bytes = getBytes(name);
    return bytes === undefined || bytes === null ? undefined : JSON.parse(decodeUtf8(bytes));
  },
  /// ttlMs: for how long; without, for as long as the route exists.
  set(name, value, ttlMs) {
    put(name, encodeUtf8(JSON.stringify(value)), ttlMs);
  },
  delete: deleteBytes,
  names: (prefix = '') => names(prefix),
  getBytes,
  setBytes: put,
};

function put(name, bytes, ttlMs) {
  try {
    setBytes(name, bytes, ttlMs === undefined ? undefined : BigInt(Math.ceil(ttlMs)));
  } catch (error) {
    const refused = error?.payload ?? error;
    throw reject(refused?.tag ? `state \`${name}\`: ${refused.tag}, the limit is ${refused.val} bytes` : String(error));
  }
}

const writer = (level) => (...words) => write(level, '', words.map((word) => (typeof word === 'string' ? word : JSON.stringify(word))).join(' '));

/// Lines for the host's log.
export const log = { trace: writer('trace'), debug: writer('debug'), info: writer('info'), warn: writer('warn'), error: writer('error'), critical: writer('critical') };
