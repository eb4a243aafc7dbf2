#!/usr/bin/env node
// Makes a component of a handler in JavaScript or TypeScript, around QuickJS:
//
//   node build.mjs HANDLER.{js,ts} OUT.wasm
//
// The module exports `configure` and `handle` as the contract in wit/ says; what it imports is bundled with it.
// esbuild and componentize-qjs are those on the PATH, or in this folder's node_modules.
//
// Not `--stub-wasi`: that takes wasi:config and wasi:logging for WASI too, and what it stubs traps, while the host
// has an empty WASI in which Date.now() is the reading's time.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const [handler, out] = process.argv.slice(2);
if (!out) throw new Error('usage: build.mjs HANDLER.{js,ts} OUT.wasm');

const env = { ...process.env, PATH: [join(HERE, 'node_modules/.bin'), process.env.PATH].join(delimiter) };
const run = (tool, options) => execFileSync(tool, options, { env, stdio: ['ignore', 'ignore', 'inherit'] });

const made = mkdtempSync(join(tmpdir(), 'sandbar-js-'));
try {
  const bundle = join(made, 'handler.js');
  run('esbuild', [resolve(handler), '--bundle', '--format=esm', '--log-level=warning', '--external:wasi:*', '--external:sandbar:*', `--outfile=${bundle}`]);
  run('componentize-qjs', ['-w', join(HERE, '../../wit'), '-n', 'handler', '-j', bundle, '--sync', '-o', resolve(out)]);
} finally {
  rmSync(made, { recursive: true });
}
