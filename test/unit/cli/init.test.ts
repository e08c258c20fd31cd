import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import '../../../node/net/polyfill.js';
import { runProgram } from '../../../node/cli/program.js';
import { VERBS } from '../../../node/cli/verbs.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../../node/version.js';
import { makeInvite } from '../../../node/invite.js';
import { inviteRun } from '../../support/invites.js';
import { testIdentity } from '../../support/runs.js';

const ADDRESS = '/ip4/192.0.2.7/tcp/4001';

let dir = '';
let data = '';
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'murmurate-init-'));
  data = path.join(dir, 'my notes.jsonl');
  await writeFile(data, '{"text":"one"}\n{"text":"two"}\n');
});
after(() => rm(dir, { recursive: true }));

interface Outcome {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** `answers`: lines that a person types; null without a terminal. */
async function run(answers: readonly string[] | null, ...args: string[]): Promise<Outcome> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const { signal } = new AbortController();
  const io = {
    ...{ stdout, stderr, terminal: false, signal, interrupt: (): void => undefined },
    answers: answers && Readable.from(answers.map((line) => `${line}\n`)),
  };
  const exitCode = await runProgram(VERBS, args, io, {});
  stdout.end();
  stderr.end();
  return { exitCode, stdout: await collect(stdout), stderr: await collect(stderr) };
}

/** Option -> value and who set it, as murmurate config reads the file. */
async function read(verb: string, file: string): Promise<Map<string, unknown>> {
  const { exitCode, stdout, stderr } = await run(null, 'config', '--json', verb, '--config', file);
  assert.equal(exitCode, 0, stderr);
  const { options } = JSON.parse(stdout) as {
    options: { option: string; value: unknown; from: string }[];
  };
  const fromFile = options.filter(({ from }) => from.startsWith(file));
  return new Map(fromFile.map(({ option, value }) => [option, value]));
}

describe('murmurate init', () => {
  it('asks four questions, again where an answer will not do, and writes what start reads', async () => {
    const file = path.join(dir, 'asked.yaml');
    const answers = [
      path.join(dir, 'none.txt'),
      data,
      dir,
      EMBEDDED_MODEL_DIRECTORY,
      'here',
      'found',
      'me',
      'invite',
    ];
    const { exitCode, stdout, stderr } = await run(answers, 'init', file);
    assert.equal(exitCode, 0, stderr);
    assert.match(stderr, /none\.txt .*does not exist/);
    assert.match(stderr, /my notes\.jsonl: 2 examples/);
    assert.match(stderr, /has no config\.json/);
    assert.match(stderr, /"here" is not an address/);
    assert.match(stderr, /"me" is neither; say open or invite/);
    assert.equal(
      stdout,
      `${file} is written; next: murmurate start --config ${JSON.stringify(file)}\n` +
        'while that runs, murmurate invite lets in one peer each\n',
    );
    assert.deepEqual(
      await read('start', file),
      new Map<string, unknown>([
        ['model', EMBEDDED_MODEL_DIRECTORY],
        ['data', [data]],
        ['invite-only', true],
      ]),
    );
    assert.equal((await stat(file)).mode & 0o777 & ~0o022, 0o644 & ~0o022);
  });

  it('takes all answers from flags where there is no terminal, and gives a file with an invite to its owner alone', async () => {
    const file = path.join(dir, 'flags.yaml');
    const found = await run(null, 'init', file, '--data', data, '--found', '--open');
    assert.equal(found.exitCode, 0, found.stderr);
    assert.deepEqual(
      await read('start', file),
      new Map<string, unknown>([
        ['data', [data]],
        ['invite-only', false],
      ]),
    );
    const identity = testIdentity(0);
    const context = { run: inviteRun(), identity, addresses: [ADDRESS], contacts: [] };
    const invite = makeInvite({ ...context, swarmKey: null, epoch: 0 }, 5);
    const secret = path.join(dir, 'secret.yaml');
    const joined = await run(null, 'init', secret, '--data', data, '--join', invite);
    assert.equal(joined.exitCode, 0, joined.stderr);
    assert.ok(!`${joined.stdout}${joined.stderr}`.includes(invite));
    assert.equal((await stat(secret)).mode & 0o777, 0o600);
    assert.match(await readFile(secret, 'utf8'), new RegExp(`^address: "${invite}"$`, 'm'));
    assert.match(joined.stdout, /next: murmurate join --config/);
    const addressed = await run(null, 'init', secret, '--force', '--data', data, '--join', ADDRESS);
    assert.equal(addressed.exitCode, 0, addressed.stderr);
    assert.equal((await read('join', secret)).get('address'), ADDRESS);
  });

  it('says how much of the data start would cut', async () => {
    const long = path.join(dir, 'long.jsonl');
    const texts = ['short', 'one two three four '.repeat(200)];
    const rows = texts.map((prompt) => `${JSON.stringify({ prompt, completion: 'yes' })}\n`);
    await writeFile(long, rows.join(''));
    const file = path.join(dir, 'long.yaml');
    const { exitCode, stderr } = await run(null, 'init', file, '--data', long, '--found', '--open');
    assert.equal(exitCode, 0, stderr);
    assert.match(
      stderr,
      /data: \d records? to train on.*; 1 is longer than a sequence \(512 tokens\) and cut into several, and \d+ of \d+ tokens, none of them trained, are dropped/,
    );
  });

  it('uncommented, every hint in the file is an option at its default', async () => {
    const file = path.join(dir, 'hints.yaml');
    await run(null, 'init', file, '--data', data, '--found', '--open');
    const text = await readFile(file, 'utf8');
    const hints = text.replaceAll(/^# ([a-z-]+): (?!TEXT|NAME|DIR)(.*)$/gm, '$1: $2');
    assert.ok((hints.match(/^[a-z-]+: /gm) ?? []).length >= 12);
    await writeFile(file, hints);
    assert.ok((await read('start', file)).has('epoch-seconds'));
  });

  it('exits 2 with one sentence without a terminal, when the answers end, and for flags at odds', async () => {
    const file = path.join(dir, 'never.yaml');
    const cases: [string[] | null, string[], RegExp][] = [
      [
        null,
        [],
        /^error: there is no terminal to ask in: answer with --data FILE\.\.\. \(see "murmurate init --help"\)\n$/,
      ],
      [null, ['--data', data], /answer with --found or --join ADDRESS/],
      [null, ['--data', data, '--found'], /answer with --open or --invite-only/],
      [[data, ''], [], /the answers ended before the questions/],
      [null, ['--found', '--join', ADDRESS], /--found and --join exclude each other/],
      [null, ['--open', '--invite-only'], /--open and --invite-only exclude each other/],
      [null, ['--join', ADDRESS, '--open'], /--join and --open or --invite-only exclude/],
      [null, ['--data', data, '--join', 'nowhere'], /"nowhere" is not an address/],
    ];
    for (const [answers, args, sentence] of cases) {
      const { exitCode, stderr } = await run(answers, 'init', file, ...args);
      assert.equal(exitCode, 2, stderr);
      assert.match(stderr, sentence);
      await assert.rejects(stat(file));
    }
  });

  it('overwrites a file only when it is told to', async () => {
    const file = path.join(dir, 'kept.yaml');
    const flags = ['--data', data, '--found', '--open'];
    for (const [answers, isKept] of [
      [null, true],
      [[''], true],
      [['no'], true],
      [['y'], false],
    ] as const) {
      await writeFile(file, 'epochs: 7\n');
      const { exitCode, stderr } = await run(answers && [...answers, ''], 'init', file, ...flags);
      assert.equal(exitCode, isKept ? 2 : 0, stderr);
      assert.equal((await readFile(file, 'utf8')) === 'epochs: 7\n', isKept);
    }
    assert.equal((await run(null, 'init', file, '--force', ...flags)).exitCode, 0);
    const lost = await run(null, 'init', path.join(dir, 'no', 'such.yaml'), ...flags);
    assert.equal(lost.exitCode, 1);
    assert.match(lost.stderr, /cannot be written \(ENOENT\)/);
  });
});
