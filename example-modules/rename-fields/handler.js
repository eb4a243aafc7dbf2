// Gives the fields of a vendor's JSON the names that you use. What it does is told in README.md.

import { config, json, message, reject } from '../../guest-sdk/sources/js/sandbar.js';

/// [from, to]: paths into the payload and names in what is passed on; set by configure.
let renames = [];
let constants = [];
let keepOthers = false;
let topic = '{topic}/renamed';

export function configure() {
  for (const [key, value] of Object.entries(config.all())) {
    if (key.startsWith('rename.')) renames.push([key.slice('rename.'.length).split('.'), value]);
    else if (key.startsWith('set.')) constants.push([key.slice('set.'.length), value]);
    else if (key === 'topic') topic = value;
    else if (key === 'others' && (value === 'keep' || value === 'drop')) keepOthers = value === 'keep';
    else throw key === 'others' ? `setting \`others\` is "${value}", neither "keep" nor "drop"` : `no such setting: ${key}`;
  }
  if (renames.length === 0) throw 'no setting `rename.NAME`: there is nothing to rename';
}

export function handle(reading) {
  const payload = json(reading);
  if (!isObject(payload)) throw reject('the payload is not a JSON object');
  const found = keepOthers ? { ...payload } : {};
  for (const [path] of renames) delete found[path[0]];
  for (const [path, name] of renames) {
    const value = path.reduce((inner, key) => (isObject(inner) && Object.hasOwn(inner, key) ? inner[key] : undefined), payload);
    if (value !== undefined) found[name] = value;
  }
  for (const [name, value] of constants) found[name] = value;
  return [message(topic.replaceAll('{topic}', () => reading.topic), found)];
}

function isObject(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
