/** Commands in any document are ones that exist: none is run here (test/docs types those of a terminal). */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { VERBS } from '../../../node/cli/verbs.js';
import { flagOf } from '../../../node/config.js';
import { PACKAGE_DIRECTORY } from '../../../node/version.js';
import { commandWithin, shownCommands, type ShownCommand } from '../../docs/commands.js';
import { NOT_TYPED } from '../../docs/not-typed.js';
import { parsed } from '../../support/parse-command.js';

const text = (file: string): string => readFileSync(path.join(PACKAGE_DIRECTORY, file), 'utf8');
const isThere = (file: string): boolean => existsSync(path.join(PACKAGE_DIRECTORY, file));
const tracked = execFileSync('git', ['ls-files', '*.md'], {
  ...{ cwd: PACKAGE_DIRECTORY, encoding: 'utf8' as const },
});
const documents = tracked.split('\n').filter((file) => file !== '' && isThere(file));
const { scripts } = z
  .object({ scripts: z.record(z.string(), z.string()) })
  .parse(JSON.parse(text('package.json')));

/** All commands of `markdown`, those that another command runs elsewhere among them. */
function commandsOf(markdown: string): ShownCommand[] {
  return shownCommands(markdown).flatMap((command) => {
    const inner = commandWithin(command.words);
    return inner === null ? [command] : [command, { ...command, words: inner }];
  });
}

/** What is shown of ids, which differ from one run to the next. */
const PEER_ID = '12D3KooWGRUfCzNnAnu4T7gKCQJcNNQSPqkjMJ5QZ1ZRPQDUSkLX';
const withIds = (words: readonly string[]): string[] =>
  words.map((word) => word.replace(/12D3KooW\w*(?:\.\.\.)?/, PEER_ID));

/** Fails unless the program takes the command; in a sentence arguments and the last value may be left out. */
async function checkMurmurate({ words, where }: ShownCommand): Promise<void> {
  const [, name = '', ...given] = withIds(words);
  const verb = VERBS.find((one) => one.name === name);
  const rest = given.filter((word) => word !== 'OPTIONS');
  if (where !== 'text' || verb === undefined) {
    if (words.length > 1) await parsed([name, ...rest]);
    return;
  }
  const last = rest.at(-1) ?? '';
  const spec = Object.entries(verb.options).find(([key]) => flagOf(key) === last)?.[1];
  if (spec !== undefined && spec.kind !== 'switch') rest.push('VALUE');
  const missing = verb.args.filter(({ required }) => required).map(() => 'ARGUMENT');
  try {
    await parsed([name, ...rest]);
  } catch (error) {
    if (!/missing required argument/.test(String(error))) throw error;
    await parsed([name, ...missing, ...rest]);
  }
}

/** Fails unless a verb has all of these flags, and takes their values. */
async function checkFlags(command: ShownCommand): Promise<void> {
  const flags = command.words.filter((word) => word.startsWith('--'));
  if (flags.join(' ') === '--help') return;
  const verbs = VERBS.filter(({ options }) => {
    const known = Object.keys(options).map(flagOf);
    return flags.every((flag) => known.includes(flag));
  });
  const errors: unknown[] = [`no verb has ${flags.join(' and ')}`];
  for (const { name } of verbs) {
    try {
      await checkMurmurate({ ...command, words: ['murmurate', name, ...command.words] });
      return;
    } catch (error) {
      errors.push(error);
    }
  }
  assert.fail(String(errors.at(-1)));
}

/** Fails unless the script, the tier or npm's own command is there, and the script knows each flag. */
function checkNpm(words: readonly string[]): void {
  const [command = '', ...rest] = words.slice(1).filter((word) => word !== '--silent');
  if (['ci', 'install', 'link', 'pack', 'ls', 'audit', 'prune'].includes(command)) return;
  const [script = '', ...given] = command === 'run' ? rest : [command, ...rest];
  const body = scripts[script];
  assert.ok(body !== undefined, `package.json has no script ${script}`);
  const args = given.filter((word) => word !== '--');
  const [, main = ''] = /node (?:--\S+ )*dist\/(\S+)\.js/.exec(body) ?? [];
  if (script === 'test') {
    for (const tier of args) assert.ok(isThere(`test/${tier}`) || isThere(`test/${tier}.test.ts`));
    return;
  }
  // Options of parseArgs, in an object, or of node/config.ts, made by a function.
  for (const flag of args.filter((word) => word.startsWith('--')))
    assert.match(text(`${main}.ts`), new RegExp(`['\\s]${flag.slice(2)}'?: (\\{|\\w+\\()`), flag);
}

function checkNode(words: readonly string[]): void {
  const file = words.find((word) => /\.[jt]s$/.test(word)) ?? '';
  const source = file.replace(/^dist\/(.*)\.js$/, '$1.ts');
  // docs/LIBRARY.md has the program itself.
  assert.ok(isThere(source) || file === 'train.js' || file.startsWith('/opt/murmurate/'), file);
}

/** Fails unless what is shown is there. */
async function check(command: ShownCommand): Promise<void> {
  const { words } = command;
  const [program = ''] = words;
  if (program === 'murmurate') await checkMurmurate(command);
  else if (program === 'npm') checkNpm(words);
  else if (program === 'node') checkNode(words);
  // Flags of murmurate; "-- --bits" and --gpus are of the commands before them.
  else if (program.startsWith('--') && program !== '--' && program !== '--gpus')
    await checkFlags(command);
}

/** What is wrong with the commands of `markdown`, by line; `blocksOnly`: not with those in the text. */
async function faults(markdown: string, blocksOnly = false): Promise<string[]> {
  const found: string[] = [];
  for (const command of commandsOf(markdown)) {
    if (blocksOnly && command.where === 'text') continue;
    try {
      await check(command);
    } catch (error) {
      found.push(`line ${command.line}: ${command.words.join(' ')}: ${String(error)}`);
    }
  }
  return found;
}

describe('the commands of a document', () => {
  for (const file of documents) {
    it(`exist, with their flags and values: ${file}`, async () => {
      // Its text is made of the options themselves.
      assert.deepEqual(await faults(text(file), file === 'docs/CLI.md'), []);
    });
  }

  it('would not be missed, were they wrong', async () => {
    const wrong = {
      '```sh\nmurmurate begin\n```': /unknown command 'begin'/,
      '```console\n$ murmurate start --data a.txt --epocs 3\n```': /unknown option '--epocs'/,
      '```sh-session\n$ murmurate start --data a.txt \\\n  --epochs 0\n```': /--epochs is "0"/,
      '```sh\nmurmurate generate\n```': /missing required argument/,
      '```sh\nnpx murmurate join nowhere --data a.txt\n```': /is not an address/,
      '```sh\ndocker exec NAME murmurate status a b\n```': /too many arguments/,
      'and `murmurate export --marge DIR` too': /unknown option '--marge'/,
      'and `export --persona DIR`': /unknown option '--persona'/,
      '| `--dp-noise 1.5 --dp-epsilen 8` |': /no verb has --dp-noise and --dp-epsilen/,
      '| `--device cpu\\|quantum` |': /--device is "quantum"/,
      'by `npm run bench:nothing`': /no script bench:nothing/,
      'by `npm run sim -- --sceneario large`': /--sceneario/,
      'by `npm test -- nett`': /./,
      'by `node dist/deploy/wealth.js ready`': /wealth/,
    };
    for (const [markdown, reason] of Object.entries(wrong)) {
      const [fault = '', ...more] = await faults(markdown);
      assert.match(fault, reason, markdown);
      assert.deepEqual(more, []);
    }
  });

  it('are typed by a test, or there is a reason why not', () => {
    const needed = new Set<string>();
    const unknown: string[] = [];
    const shown = documents
      .filter((file) => file !== 'docs/CLI.md')
      .flatMap((file) => shownCommands(text(file)).map((command) => ({ ...command, file })));
    const typed = new Set(
      shown.filter(({ where }) => where === 'typed').map(({ words }) => words.join(' ')),
    );
    for (const { file, words, line, where } of shown) {
      // Where the tests of test/docs look.
      if (where === 'typed') assert.match(file, /^(?:README\.md|docs\/(?:guides\/)?[^/]+)$/);
      if (where === 'block' && !typed.has(words.join(' '))) {
        const command = `${words.join(' ')} `;
        const reason = NOT_TYPED.find(({ begins }) => command.startsWith(begins));
        if (reason) needed.add(reason.begins);
        else unknown.push(`${file}:${line}: ${command}`);
      }
    }
    assert.deepEqual(unknown, []);
    const idle = NOT_TYPED.filter(({ begins }) => !needed.has(begins));
    assert.deepEqual(idle, []);
    const named = NOT_TYPED.flatMap(({ instead }) => instead.match(/test\/[\w/.-]+/g) ?? []);
    assert.deepEqual(
      named.filter((place) => !isThere(place)),
      [],
    );
  });
});
