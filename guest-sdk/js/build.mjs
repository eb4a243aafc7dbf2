#!/usr/bin/env node
// Makes a component of a handler in JavaScript, around QuickJS:
//
//   node build.mjs HANDLER.js OUT.wasm [COMPONENTIZE_QJS]
//
// The module exports `configure` and `handle` as the contract in wit/ says; what it imports lies beside it or below.
// COMPONENTIZE_QJS is the program's path where it is not in this folder's node_modules.
//
// Not `--stub-wasi`: that takes wasi:config and wasi:logging for WASI too, and what it stubs traps, while the host
// has an empty WASI in which Date.now() is the reading's time.

import { execFileSync } from 'node:child_process';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const [handler, out, tool = join(HERE, 'node_modules/.bin/componentize-qjs')] = process.argv.slice(2);
if (!out) throw new Error('usage: build.mjs HANDLER.js OUT.wasm [COMPONENTIZE_QJS]');

const options = ['-w', join(HERE, '../../wit'), '-n', 'handler', '-j', resolve(handler), '--module-root', dirname(resolve(handler))];
execFileSync(tool, [...options, '--sync', '-o', out], { stdio: ['ignore', 'ignore', 'inherit'] });
