// Types of the contract (wit/handler.wit) and of sandbar.js.

/** A key and a value, for example `["mqtt.qos", "1"]`. */
export type Attribute = [string, string];

/** Something that arrived. The same at every attempt, byte for byte. */
export interface Reading {
  /** 26 characters, unique across hosts, sorting by time of acceptance. */
  id: string;
  ingress: string;
  topic: string;
  device?: string;
  /** Nanoseconds since the Unix epoch, UTC. */
  time: bigint;
  contentType: string;
  attributes: Attribute[];
  payload: Uint8Array;
}

export interface Message {
  topic: string;
  device?: string;
  contentType: string;
  attributes: Attribute[];
  payload: Uint8Array;
}

export interface Command {
  device: string;
  name: string;
  contentType: string;
  payload: Uint8Array;
}

export type Output = { tag: 'message'; val: Message } | { tag: 'reply'; val: Message } | { tag: 'command'; val: Command };

/** What `handle` may throw. */
export type Failure = { tag: 'reject'; val: string } | { tag: 'retry'; val: string };

/** Bytes and text go as they are, anything else as JSON. */
export type Body = Uint8Array | string | number | boolean | null | object;

export interface Options {
  device?: string;
  contentType?: string;
  attributes?: Record<string, string> | Attribute[];
}

export function reject(cause: unknown): Failure;
export function retry(cause: unknown): Failure;
export function text(reading: Reading): string;
export function json<T = any>(reading: Reading): T;
export function attribute(reading: Reading, name: string): string | undefined;
export function message(topic: string, body: Body, options?: Options): Output;
export function reply(body: Body, options?: Options & { status?: number }): Output;
export function command(device: string, name: string, body?: Body, options?: Options): Output;
export function decodeUtf8(bytes: Uint8Array): string;
export function encodeUtf8(text: string): Uint8Array;

export const config: {
  all(): Record<string, string>;
  get(name: string): string | undefined;
  get(name: string, otherwise: string): string;
  number(name: string, otherwise?: number): number;
  required(name: string): string;
};

export const state: {
  get<T = any>(name: string): T | undefined;
  set(name: string, value: unknown, ttlMs?: number): void;
  delete(name: string): void;
  names(prefix?: string): string[];
  getBytes(name: string): Uint8Array | undefined;
  setBytes(name: string, value: Uint8Array, ttlMs?: number): void;
};

type Write = (...words: unknown[]) => void;
export const log: { trace: Write; debug: Write; info: Write; warn: Write; error: Write; critical: Write };

/** Why there is no answer. Thrown out of `handle`, `failed` is tried again and the others are dead letters. */
export class HttpError extends TypeError {
  readonly code: 'denied' | 'invalid' | 'failed' | 'too-large';
}

/** Names are compared without regard to capitals. */
export class Headers {
  constructor(init?: HeadersInit);
  append(name: string, value: string): void;
  set(name: string, value: string): void;
  delete(name: string): void;
  get(name: string): string | null;
  getSetCookie(): string[];
  has(name: string): boolean;
  forEach(work: (value: string, name: string, headers: Headers) => void): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
}

export type HeadersInit = Headers | Record<string, string> | [string, string][];

/** An answer, whatever its status. Its body has come already, and may be read more than once. */
export class Response {
  private constructor();
  readonly url: string;
  readonly status: number;
  readonly ok: boolean;
  readonly headers: Headers;
  bytes(): Promise<Uint8Array>;
  arrayBuffer(): Promise<ArrayBuffer>;
  text(): Promise<string>;
  json<T = any>(): Promise<T>;
}

export interface RequestInit {
  method?: string;
  headers?: HeadersInit;
  body?: string | Uint8Array | ArrayBuffer | null;
  /** For connecting, for the beginning of the answer, and between two parts of it; at most what the route allows. */
  timeoutMs?: number;
}

/** Asks over HTTP what the route permits. Redirects are not followed: they are answers with a `location`. */
export function fetch(url: string, init?: RequestInit): Promise<Response>;

declare global {
  function fetch(url: string, init?: RequestInit): Promise<Response>;
}
