/** What --personal does in generate, eval, chat and export, on a peer's directory with experts in it. */
import assert from 'node:assert/strict';
import { readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { runProgram } from '../../../node/cli/program.js';
import { VERBS } from '../../../node/cli/verbs.js';
import { readPeftAdapter, writePeftAdapter } from '../../../node/model/peft.js';
import type { Run } from '../../../protocol/manifest.js';
import { embeddedRun, writePersonalPeer } from '../../support/personal-peer.js';
import { Scratch, textReference, TINY_BASE } from '../model/fixtures.js';

const PROMPT = 'ROMEO:\nWhat';
const notes = textReference('notes.jsonl');

type Losses = Record<
  'base' | 'adapter' | 'continued' | 'alone' | 'mixture',
  { loss: number } | null
>;

describe('--personal', () => {
  const scratch = new Scratch();
  let dir = '';
  let same = '';
  let run: Run;
  let experts: Awaited<ReturnType<typeof writePersonalPeer>>;
  before(async () => {
    [dir, same] = [await scratch.directory(), await scratch.directory()];
    run = await embeddedRun();
    experts = await writePersonalPeer(dir, run);
    await writePersonalPeer(same, run, { strength: 0, mixture: 1.5 });
  });
  after(() => scratch.remove());

  async function call(
    args: readonly string[],
    input = '',
  ): Promise<{ exitCode: number; stdout: string; stderr: string }> {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const { signal } = new AbortController();
    const stdin = Readable.from([input]) as unknown as NodeJS.ReadStream;
    const io = { stdin, stdout, stderr, terminal: false, signal, interrupt: () => undefined };
    const exitCode = await runProgram(VERBS, args, io, {});
    stdout.end();
    stderr.end();
    return { exitCode, stdout: await collect(stdout), stderr: await collect(stderr) };
  }
  const done = async (args: readonly string[], input?: string): Promise<string> => {
    const { exitCode, stdout, stderr } = await call(args, input);
    assert.equal(exitCode, 0, stderr);
    return stdout;
  };
  const generate = (...args: string[]): Promise<string> =>
    done(['generate', PROMPT, '--max-tokens', '12', '--device', 'cpu', ...args]);

  it('generate writes as the mixture does, and as the swarm’s adapter where the experts are that', async () => {
    const swarm = await generate('--dir', dir);
    assert.equal(await generate('--dir', same, '--personal'), swarm);
    const mixed = await generate('--dir', dir, '--personal');
    assert.notEqual(mixed, swarm);
    const both = await generate('--dir', dir, '--personal', '--compare');
    assert.equal(both, `base:\n${swarm}personal:\n${mixed}`, 'the swarm has learned nothing yet');
    const drawn = ['--temperature', '0.9', '--top-p', '0.9', '--seed', 'x', '--personal'];
    assert.equal(await generate('--dir', dir, ...drawn), await generate('--dir', dir, ...drawn));
  });

  it('eval measures each expert as it would by itself, and the mixture close to the best', async () => {
    const json = async (...args: string[]): Promise<Losses & { tokens: number }> => {
      const printed = await done([
        'eval',
        notes,
        '--dir',
        dir,
        '--device',
        'cpu',
        '--json',
        ...args,
      ]);
      return (JSON.parse(printed) as { all: Losses & { tokens: number } }).all;
    };
    const found = await json('--personal');
    for (const name of ['continued', 'alone'] as const) {
      const target = join(dir, `${name}-adapter`);
      const spec = run.manifest.adapter;
      await writePeftAdapter(target, { spec, theta: experts[name], baseModelName: 'tiny-base' });
      const { adapter } = await json('--adapter', target);
      assert.ok(Math.abs(adapter!.loss - found[name]!.loss) < 1e-5, name);
    }
    assert.equal((await json()).continued, null);
    const { adapter: swarm, mixture } = found;
    const records = (await readFile(notes, 'utf8')).trim().split('\n').length;
    const bound = swarm!.loss + (records * Math.LN2) / found.tokens;
    assert.ok(mixture!.loss <= bound, `${mixture!.loss} ${bound}`);
    const table = await done(['eval', notes, '--dir', dir, '--device', 'cpu', '--personal']);
    assert.match(table, /base .* swarm .* continued .* alone .* mixture/);
    assert.match(table, /base, swarm, continued, alone and mixture: nats per trained token/);
  });

  it('chat answers with it, and goes on when the conversation is longer than the context', async () => {
    const lines = Array.from({ length: 6 }, (_, i) => `Tell me of the ${i} kings of old\n`).join(
      '',
    );
    const args = ['chat', '--dir', dir, '--personal', '--device', 'cpu', '--format', 'Q: {}\nA:'];
    const { exitCode, stdout, stderr } = await call(
      [...args, '--context', '64', '--max-tokens', '8'],
      lines,
    );
    assert.equal(exitCode, 0, stderr);
    assert.equal(stdout.split('\n').length - 1, 6);
    assert.match(stderr, /personal: the oldest \d+ messages left, for want of room/);
  });

  it('export writes one adapter, and says what it gives up', async () => {
    const target = join(dir, 'mine');
    const said = await done(['export', target, '--dir', dir, '--personal', '--model', TINY_BASE]);
    assert.match(said, /^8 updates up to epoch 3, SHA-256/m);
    assert.match(
      said,
      /^personal: 75 % of the way from the swarm’s adapter to one that went on for 6 epochs on own text$/m,
    );
    assert.match(
      said,
      /^as one adapter it gives up 0\.063 nats per held-out token of own text against the mixture of --personal \(1\.313, mixture 1\.250, swarm 1\.750\)$/m,
    );
    assert.match(said, /It was trained on this peer’s own text alone: it may give that text away/);
    const { theta } = await readPeftAdapter(target, run.manifest.adapter);
    assert.deepEqual(theta, experts.single);
    const short = await done([
      ...['export', join(dir, 'short'), '--dir', same, '--personal', '--model', TINY_BASE],
    ]);
    assert.match(
      short,
      /^as one adapter it is 0\.188 nats per held-out token of own text better than the mixture of --personal \(1\.313, mixture 1\.500, swarm 1\.750\), which forgets less of other text$/m,
    );
  });

  it('says what to do where there is nothing to mix', async () => {
    const [bare, broken, foreign] = [
      await scratch.directory(),
      await scratch.directory(),
      await scratch.directory(),
    ];
    for (const one of [bare, broken, foreign]) await writePersonalPeer(one, run);
    await rm(join(bare, 'personal.bin'));
    await truncate(join(broken, 'personal.bin'), 300);
    await writePersonalPeer(foreign, await embeddedRun(1));
    await writeFile(join(foreign, 'manifest.bin'), run.bytes);
    const cases: [string, RegExp][] = [
      [
        bare,
        /holds no personal experts yet; murmurate personal --dir \S+ trains them on this peer/,
      ],
      [
        broken,
        /personal\.bin cannot be used: its SHA-256 does not match; murmurate personal --dir/,
      ],
      [foreign, /personal\.bin cannot be used: it belongs to run \w+, not \w+; murmurate personal/],
      ['/nonexistent', /\/nonexistent holds no run/],
    ];
    for (const [where, sentence] of cases) {
      for (const verb of [
        ['generate', 'x'],
        ['chat'],
        ['serve', '--port', '0'],
        ['eval', notes],
        ['export', 'x'],
      ]) {
        const { exitCode, stderr } = await call([...verb, '--dir', where, '--personal']);
        assert.equal(exitCode, 1, stderr);
        assert.match(stderr, sentence);
      }
    }
    const { exitCode, stderr } = await call(['personal', '--dir', dir]);
    assert.equal(exitCode, 1);
    assert.match(stderr, /no member of the run in \S+ has trained yet.*let it train first/);
  });
});
