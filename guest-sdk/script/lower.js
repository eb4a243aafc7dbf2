// Async functions of a script as generators, as esbuild makes them of a module's: what loop.js can see through. Nothing
// moves to another line, so that errors name the author's.

// The parser as text: a third of a megabyte less in every instance, and few scripts need it.
import acorn from 'acorn-text';

let parser;
const parse = (text, options) => (parser ??= new Function(`${acorn};return acorn`)()).parse(text, options);

/// What the script's text calls; see run().
export const NAME = '__async';

/// Runs a generator as the async function that it stands for.
export function run(self, given, generator) {
  return new Promise((resolve, reject) => {
    const running = generator.apply(self, given);
    const step = (go) => {
      let at;
      try {
        at = go();
      } catch (error) {
        return reject(error);
      }
      if (at.done) return resolve(at.value);
      Promise.resolve(at.value).then(
        (value) => step(() => running.next(value)),
        (error) => step(() => running.throw(error)),
      );
    };
    step(() => running.next());
  });
}

/// The text without `async` and `await`.
export function lower(text) {
  if (!/\basync\b/.test(text)) return text;
  let program;
  try {
    program = parse(text, { ecmaVersion: 'latest', allowReturnOutsideFunction: true });
  } catch {
    // The engine says better what is wrong.
    return text;
  }
  const edits = [];
  visit(text, program, program, edits);
  edits.sort((a, b) => a.at - b.at || a.order - b.order);
  let made = '';
  let done = 0;
  for (const { at, cut, put } of edits) {
    made += text.slice(done, at) + put;
    done = at + cut;
  }
  return made + text.slice(done);
}

function visit(text, node, parent, edits) {
  if (node.type === 'AwaitExpression') {
    edits.push({ at: node.start, cut: 'await'.length, put: '(yield (', order: 0 }, { at: node.end, cut: 0, put: '))', order: -node.start });
  } else if (node.type === 'ForOfStatement' && node.await) {
    throw 'the script: `for await` is for projects, not for scripts';
  } else if (node.async) {
    asynchronous(text, node, parent, edits);
  }
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) {
      if (typeof child?.type === 'string') visit(text, child, node, edits);
    }
  }
}

function asynchronous(text, node, parent, edits) {
  if (node.generator) throw 'the script: async generators are for projects, not for scripts';
  // A method's function begins at its parameters, and `async` stands before the method's name.
  const isMethod = parent.value === node && (parent.method || parent.type === 'MethodDefinition');
  const at = isMethod ? text.indexOf('async', parent.start) : node.start;
  const { start, end } = node.body;
  const given = node.type === 'ArrowFunctionExpression' ? '[]' : 'arguments';
  const opens = `${NAME}(this, ${given}, function* () {`;
  edits.push({ at, cut: 'async'.length, put: '', order: 0 });
  if (node.body.type === 'BlockStatement') {
    edits.push({ at: start + 1, cut: 0, put: ` return ${opens}`, order: 0 }, { at: end - 1, cut: 0, put: '}); ', order: 0 });
  } else {
    edits.push({ at: start, cut: 0, put: `${opens} return (`, order: -1 }, { at: end, cut: 0, put: '); })', order: -node.start });
  }
}
