// Runs a script given as text: the component behind `sandbar deploy --script`. The script defines `handle`, and may
// define `configure`; what sandbar.js exports is there for it by name.

import { get as setting } from 'wasi:config/store@0.2.0-rc.1';

import * as sandbar from '../sources/js/sandbar.js';
import { settle } from '../sources/js/loop.js';
import { lower, NAME, run } from './lower.js';

let handler;

export function configure() {
  const text = setting('sandbar.script');
  if (text === undefined || text === null) throw 'this runs scripts, and there is none';
  handler = load(text);
  settle(handler.configure?.());
}

export function handle(reading) {
  try {
    return settle(handler.handle(reading)) ?? [];
  } catch (error) {
    throw error?.tag ? error : sandbar.reject(describe(error));
  }
}

function load(text) {
  // As a module's functions may be written, though this is none.
  const plain = lower(text.replace(/^export\s+(?=(async|function|const|let|var|class)\b)/gm, ''));
  const defined = (name) => `${name}: typeof ${name} === 'function' ? ${name} : undefined`;
  const end = `\nreturn { ${defined('handle')}, ${defined('configure')} };`;
  let found;
  try {
    const given = { ...sandbar, [NAME]: run };
    found = new Function(...Object.keys(given), `'use strict';${plain}${end}`)(...Object.values(given));
  } catch (error) {
    throw typeof error === 'string' ? error : `the script: ${describe(error)}`;
  }
  if (!found.handle) throw 'the script has no function `handle`';
  return found;
}

/// What is wrong, and where: the first line of the stack that is the script's.
function describe(error) {
  if (!(error instanceof Error)) return String(error);
  const at = /(?:<input>|<anonymous>|<evalScript>):(\d+)/.exec(error.stack ?? '');
  // Function adds two lines before the text.
  return at ? `${error}, at line ${Math.max(1, Number(at[1]) - 2)}` : String(error);
}
