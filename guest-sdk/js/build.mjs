#!/usr/bin/env node
// Makes a component of a handler in JavaScript, around QuickJS:
//
//   node build.mjs HANDLER.js OUT.wasm [COMPONENTIZE_QJS]
//
// The module exports `init` and `handle` as the contract in wit/ says; what it imports lies beside it or below.
// COMPONENTIZE_QJS is the program's path where it is not in this folder's node_modules.
//
// componentize-qjs 0.4.5 has an export `init` of its own, with which it prepares the engine and which it leaves in
// the component: a world with an `init` makes it fail. So the world it sees calls ours `boot`, and in the finished
// component the two exports swap their names.
// Not `--stub-wasi`: that takes wasi:config and wasi:logging for WASI too, and what it stubs traps, while the host
// has an empty WASI in which Date.now() is the reading's time.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const [OURS, THEIRS] = ['init', 'boot'];

function build(handler, out, tool) {
  const work = mkdtempSync(join(tmpdir(), 'sandbar-js-'));
  try {
    cpSync(join(HERE, '../../wit'), join(work, 'wit'), { recursive: true });
    const world = join(work, 'wit/handler.wit');
    writeFileSync(world, replaceOnce(readFileSync(world, 'utf8'), `export ${OURS}:`, `export ${THEIRS}:`));

    cpSync(dirname(resolve(handler)), join(work, 'js'), { recursive: true });
    const entry = join(work, 'js/.entry.js');
    writeFileSync(entry, `export { ${OURS} as ${THEIRS}, handle } from './${basename(handler)}';\n`);

    const made = join(work, 'made.wasm');
    const options = ['-w', join(work, 'wit'), '-n', 'handler', '-j', entry, '--module-root', join(work, 'js')];
    execFileSync(tool, [...options, '--sync', '-o', made], { stdio: ['ignore', 'ignore', 'inherit'] });
    writeFileSync(out, withNamesSwapped(readFileSync(made)));
  } finally {
    rmSync(work, { recursive: true });
  }
}

/// The component with its exports `boot` and `init` called the other way round: names of one length, so that
/// nothing else moves.
function withNamesSwapped(component) {
  const EXPORTS = 11;
  // A name in an export section: a zero byte, its length, its bytes.
  const written = (name) => Buffer.from([0, name.length, ...Buffer.from(name)]);
  const found = { [OURS]: [], [THEIRS]: [] };
  for (const { kind, start, end } of sections(component)) {
    if (kind !== EXPORTS) continue;
    for (const name of [OURS, THEIRS]) {
      const at = component.subarray(start, end).indexOf(written(name));
      if (at >= 0) found[name].push(start + at);
    }
  }
  if (found[OURS].length !== 1 || found[THEIRS].length !== 1) {
    throw new Error(`the component has exports in other places than expected: ${JSON.stringify(found)}`);
  }
  written(THEIRS).copy(component, found[OURS][0]);
  written(OURS).copy(component, found[THEIRS][0]);
  return component;
}

/// A component is eight bytes of preamble, then sections: a byte for the kind, the length (LEB128), the content.
function* sections(component) {
  for (let at = 8; at < component.length; ) {
    const kind = component[at++];
    let length = 0;
    for (let shift = 0, more = true; more; shift += 7) {
      length += (component[at] & 0x7f) * 2 ** shift;
      more = component[at++] >= 0x80;
    }
    yield { kind, start: at, end: at + length };
    at += length;
  }
}

function replaceOnce(text, from, to) {
  if (text.split(from).length !== 2) throw new Error(`the contract does not say \`${from}\` once`);
  return text.replace(from, to);
}

const [handler, out, tool = join(HERE, 'node_modules/.bin/componentize-qjs')] = process.argv.slice(2);
if (!out) throw new Error('usage: build.mjs HANDLER.js OUT.wasm [COMPONENTIZE_QJS]');
build(handler, out, tool);
