// Does what its reading's payload says, and puts out what came of it: for tests of what a route permits.
// The same words as of ../permitted, which is in Rust, but for those of wasi:http, which the compiler around QuickJS
// cannot import.

import { get } from 'wasi:config/store@0.2.0-rc.1';
import { increment } from 'wasi:keyvalue/atomics@0.2.0-draft';
import { open } from 'wasi:keyvalue/store@0.2.0-draft';
import { log } from 'wasi:logging/logging@0.1.0-draft';

export async function handle(reading) {
  const [verb, ...words] = String.fromCharCode(...reading.payload).split(' ');
  const rest = words.join(' ');
  let text;
  try {
    text = String(await does(verb, rest));
  } catch (error) {
    text = `error: ${error?.payload?.tag ?? error?.tag ?? error?.message ?? JSON.stringify(error)}`;
  }
  const payload = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const message = { topic: `did/${verb}`, device: undefined, contentType: 'text/plain', attributes: [], payload };
  return [{ tag: 'message', val: message }];
}

function does(verb, rest) {
  switch (verb) {
    case 'ask':
      return ask(...rest.split(' '));
    case 'both':
      return Promise.all(rest.split(' ').map((url) => ask('GET', url))).then((said) => said.join(' | '));
    case 'secret':
      return get(`secret.${rest}`) ?? 'not granted';
    case 'count':
      return increment(open('default'), 'n', 1);
    case 'keys': {
      const bucket = open('');
      bucket.set('other', new Uint8Array([120]));
      return bucket.listKeys(undefined).keys.join(',');
    }
    case 'clock':
      return Math.floor(Date.now() / 1000);
    case 'random':
      return Math.random();
    case 'log':
      log('warn', 'js', rest);
      return '';
    default:
      throw { tag: `${verb} is not known here` };
  }
}

async function ask(method, url, ...body) {
  try {
    const answer = await fetch(url, { method, headers: { 'X-Asks': 'js' }, body: body.join(' ') });
    return `${answer.status} ${await answer.text()}`;
  } catch (error) {
    return error.code ?? `error: ${error}`;
  }
}
