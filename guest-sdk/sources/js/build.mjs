#!/usr/bin/env node
// Makes a component of a handler in JavaScript or TypeScript, around QuickJS:
//
//   node build.mjs HANDLER.{js,ts} OUT.wasm [WIT [OPTION…]]
//
// WIT is the contract's folder, `wit` if nothing is said; options are esbuild's. The module exports `handle` and, if it wants, `configure`; either
// may be async. What it imports is bundled with it. esbuild and componentize-qjs are those on the PATH.
//
// Not `--stub-wasi`: that takes wasi:config and wasi:logging for WASI too, and what it stubs traps, while the host
// has an empty WASI in which Date.now() is the reading's time.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const [handler, out, wit = 'wit', ...options] = process.argv.slice(2);
if (!out) throw new Error('usage: build.mjs HANDLER.{js,ts} OUT.wasm [WIT [OPTION…]]');

const run = (tool, words) => execFileSync(tool, words, { stdio: ['ignore', 'ignore', 'inherit'] });

// Async functions become generators, which loop.js can see through within a call.
const LOWERED = ['async-await', 'async-generator', 'for-await'].map((feature) => `--supported:${feature}=false`);

const made = mkdtempSync(join(tmpdir(), 'sandbar-js-'));
try {
  const bundle = join(made, 'handler.js');
  run('esbuild', [
    join(HERE, 'entry.js'),
    '--bundle',
    '--format=esm',
    '--log-level=warning',
    // `configure` need not be there.
    '--log-override:import-is-undefined=silent',
    '--external:wasi:*',
    '--external:sandbar:*',
    `--alias:handler=${resolve(handler)}`,
    ...LOWERED,
    ...options,
    `--outfile=${bundle}`,
  ]);
  run('componentize-qjs', ['-w', wit, '-n', 'handler', '-j', bundle, '--sync', '-o', resolve(out)]);
} catch (error) {
  // The tool has said what is wrong.
  process.exitCode = error.status ?? 1;
  if (error.status === undefined) throw error;
} finally {
  rmSync(made, { recursive: true });
}
