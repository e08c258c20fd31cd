import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { runProgram } from '../../../node/cli/program.js';
import { defineVerb, type Verb } from '../../../node/cli/verb.js';
import { integer, manyOption, option, switchOption, text } from '../../../node/config.js';
import { UserError } from '../../../node/errors.js';
import { StoreUnavailableError } from '../../../node/interfaces.js';

interface Outcome {
  exitCode: number;
  stdout: string;
  stderr: string;
}

async function run(verbs: readonly Verb[], ...args: string[]): Promise<Outcome> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const { signal } = new AbortController();
  const exitCode = await runProgram(verbs, args, {
    stdout,
    stderr,
    terminal: false,
    signal,
    interrupt: () => undefined,
  });
  stdout.end();
  stderr.end();
  return { exitCode, stdout: await collect(stdout), stderr: await collect(stderr) };
}

const cookVerb = defineVerb({
  name: 'cook',
  summary: 'Cook something.',
  args: [
    { name: 'DISH', help: 'what', required: true },
    { name: 'SIDE', help: 'with it', required: false },
  ],
  options: {
    minutes: option(integer('N', 1, 60), 10, 'how long'),
    guests: manyOption(text('NAME'), [], 'who comes'),
    saltName: option(text('NAME'), null, 'which salt'),
    hot: switchOption('serve it hot'),
  },
  example: '$ murmurate cook soup\nsoup',
  run: ({ args, options, given, io }) => {
    io.stdout.write(JSON.stringify({ args, options, given: [...given].sort() }));
    return Promise.resolve();
  },
});

function failing(error: unknown): Verb {
  return defineVerb({
    name: 'fail',
    summary: 'Fail.',
    args: [],
    options: {},
    example: '$ murmurate fail',
    run: () => Promise.reject(error as Error),
  });
}

describe('runProgram()', () => {
  it('gives defaults for what was not given, and says what was', async () => {
    const { exitCode, stdout } = await run([cookVerb], 'cook', 'soup', '--minutes', '20');
    assert.equal(exitCode, 0);
    assert.deepEqual(JSON.parse(stdout), {
      args: ['soup', null],
      options: { minutes: 20, guests: [], saltName: null, hot: false },
      given: ['minutes'],
    });
  });

  it('takes several values after one flag and from repeated flags, in order', async () => {
    const args = ['cook', 'soup', '--guests', 'a', 'b', '--hot', '--guests', 'c'];
    const { stdout } = await run([cookVerb], ...args);
    const { options, given } = JSON.parse(stdout) as {
      options: { guests: string[] };
      given: string[];
    };
    assert.deepEqual(options.guests, ['a', 'b', 'c']);
    assert.deepEqual(given, ['guests', 'hot']);
  });

  it('exits 130 without a word when Ctrl-C stopped the work, but reports a fault of that moment', async () => {
    const outcomes: [(signal: AbortSignal) => unknown, number, RegExp][] = [
      [(signal) => signal.reason as unknown, 130, /^$/],
      [() => new DOMException('stopped', 'AbortError'), 130, /^$/],
      [() => new UserError('the disk is full'), 1, /^error: the disk is full\n$/],
    ];
    for (const [errorOf, expected, words] of outcomes) {
      const abort = new AbortController();
      const stderr = new PassThrough();
      const verb = failing(null);
      verb.run = () => {
        abort.abort();
        const error = errorOf(abort.signal);
        assert.ok(error instanceof Error);
        return Promise.reject(error);
      };
      const io = {
        stdout: new PassThrough(),
        stderr,
        terminal: false,
        signal: abort.signal,
        interrupt: () => undefined,
      };
      assert.equal(await runProgram([verb], ['fail'], io), expected);
      stderr.end();
      assert.match(await collect(stderr), words);
    }
  });

  it('exits 2 with one sentence on stderr for wrong usage, and prints nothing on stdout', async () => {
    const cases: [string[], RegExp][] = [
      [
        ['cook', 'soup', '--minuts', '3'],
        /^error: unknown option '--minuts' \(Did you mean --minutes\?\); see "murmurate cook --help"\n$/,
      ],
      [['cook'], /^error: missing required argument 'DISH'; see/],
      [['cook', 'soup', 'bread', 'more'], /^error: too many arguments for 'cook'/],
      [['cook', 'soup', '--minutes'], /^error: option '--minutes <N>' argument missing; see/],
      [
        ['cook', 'soup', '--minutes', '61'],
        /^error: --minutes is "61"; it must be a whole number from 1 to 60\n$/,
      ],
      [['bake'], /^error: unknown command 'bake'; see "murmurate --help"\n$/],
    ];
    for (const [args, sentence] of cases) {
      const { exitCode, stdout, stderr } = await run([cookVerb], ...args);
      assert.equal(exitCode, 2, args.join(' '));
      assert.equal(stdout, '');
      assert.match(stderr, sentence);
    }
  });

  it('exits 2 without a verb, and shows the verbs', async () => {
    const { exitCode, stderr } = await run([cookVerb]);
    assert.equal(exitCode, 2);
    assert.match(stderr, /cook .*Cook something\./);
  });

  it('ends --help of a verb in its example, on stdout, with exit code 0', async () => {
    const { exitCode, stdout } = await run([cookVerb], 'cook', '--help');
    assert.equal(exitCode, 0);
    assert.match(stdout, /--minutes <N> +how long \(default: 10\)/);
    assert.ok(stdout.endsWith('\nExample:\n  $ murmurate cook soup\n  soup\n'), stdout);
  });

  it('prints the sentence of a user error alone and takes its exit code', async () => {
    const usage = await run([failing(new UserError('no such flag combination', 2))], 'fail');
    assert.deepEqual(usage, {
      exitCode: 2,
      stdout: '',
      stderr: 'error: no such flag combination\n',
    });
    const disk = await run([failing(new StoreUnavailableError('the disk is full'))], 'fail');
    assert.deepEqual(disk, { exitCode: 1, stdout: '', stderr: 'error: the disk is full\n' });
  });

  it('never repeats an invite, wherever on the command line it stands', async () => {
    const invite = 'murmurate1L2d8vTq9mysecret';
    const wrong = [
      [invite],
      ['cook', 'soup', 'bread', invite],
      ['cook', 'soup', '--minutes', invite],
    ];
    for (const args of wrong) {
      const { exitCode, stdout, stderr } = await run([cookVerb], ...args);
      assert.equal(exitCode, 2);
      assert.ok(!`${stdout}${stderr}`.includes('mysecret'), stderr);
    }
  });

  it('calls anything else a fault of its own, with the stack', async () => {
    const { exitCode, stderr } = await run([failing(new TypeError('x is not a function'))], 'fail');
    assert.equal(exitCode, 1);
    assert.match(stderr, /fault of murmurate itself: TypeError: x is not a function\n +at /);
  });
});
