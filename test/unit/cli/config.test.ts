import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import '../../../node/net/polyfill.js';
import { runProgram, type Environment } from '../../../node/cli/program.js';
import { VERBS } from '../../../node/cli/verbs.js';

const INVITE = 'murmurate1L2d8vTq9mysecret';
const KEY = '5f'.repeat(32);

let dir = '';
let file = '';
before(async () => {
  dir = await mkdtemp(path.join(tmpdir(), 'murmurate-config-'));
  file = path.join(dir, 'murmurate.yaml');
  const yaml = `# a peer\ndata: [a.jsonl, b.txt]\nepochs: 40\naddress: ${INVITE}\nbootstrap:\n  dir: node\n`;
  await writeFile(file, yaml, { mode: 0o600 });
});
after(() => rm(dir, { recursive: true }));

async function run(
  environment: Environment,
  ...args: string[]
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const { signal } = new AbortController();
  const io = { stdout, stderr, terminal: false, signal, interrupt: (): void => undefined };
  const exitCode = await runProgram(VERBS, args, io, environment);
  stdout.end();
  stderr.end();
  return { exitCode, stdout: await collect(stdout), stderr: await collect(stderr) };
}

interface Row {
  option: string;
  value: unknown;
  from: string;
}

async function rows(environment: Environment, ...args: string[]): Promise<Map<string, Row>> {
  const { exitCode, stdout, stderr } = await run(environment, 'config', '--json', ...args);
  assert.equal(exitCode, 0, stderr);
  const { options } = JSON.parse(stdout) as { options: Row[] };
  return new Map(options.map((row) => [row.option, row]));
}

describe('murmurate config', () => {
  it('says of each option of the verb what it is and who set it', async () => {
    const environment = { MURMURATE_CONFIG: file, MURMURATE_STEPS: '3' };
    const found = await rows(environment, 'start', '--rank', '4', '--relay');
    assert.deepEqual(
      ['data', 'epochs', 'steps', 'rank', 'relay', 'name', 'fold'].map((name) => found.get(name)),
      [
        { option: 'data', value: ['a.jsonl', 'b.txt'], from: `${file}:2` },
        { option: 'epochs', value: 40, from: `${file}:3` },
        { option: 'steps', value: 3, from: 'MURMURATE_STEPS' },
        { option: 'rank', value: 4, from: 'flag' },
        { option: 'relay', value: true, from: 'flag' },
        { option: 'name', value: null, from: "default: the model's name" },
        { option: 'fold', value: 'mean', from: 'default' },
      ],
    );
    assert.ok(!found.has('address'));
    const node = await rows({}, 'bootstrap', '--config', file);
    assert.deepEqual(node.get('dir'), { option: 'dir', value: 'node', from: `${file}:6` });
    assert.ok(!node.has('epochs'));
    const { stdout } = await run({ MURMURATE_CONFIG: file }, 'config');
    assert.match(stdout, /│ epochs +│ 40 +│ .*murmurate\.yaml:3 +│/);
    const none = await rows({ MURMURATE_CONFIG: file }, 'start', '--config', 'none');
    assert.equal(none.get('epochs')?.from, 'default');
  });

  it('never prints an invite, nor the text of a swarm key', async () => {
    const environment = { MURMURATE_CONFIG: file, MURMURATE_SWARM_KEY: `/key/swarm/${KEY}` };
    for (const format of [['--json'], []]) {
      const { exitCode, stdout } = await run(environment, 'config', ...format, 'join');
      assert.equal(exitCode, 0);
      assert.ok(!stdout.includes('mysecret') && !stdout.includes(KEY), stdout);
      assert.match(stdout, /an invite: not shown/);
      assert.match(stdout, /a key: not shown/);
    }
    const { stdout, stderr } = await run({ ...environment, MURMURATE_RANK: INVITE }, 'config');
    assert.ok(!`${stdout}${stderr}`.includes('mysecret'), stderr);
  });

  it('refuses what the verb itself would refuse, and other verbs', async () => {
    const cases: [string[], RegExp][] = [
      [['join', '--rank', '3'], /unknown option '--rank'/],
      [['start', '--rank', '900'], /--rank is "900"; it must be a whole number from 1 to 256/],
      [['status'], /"status" has no configuration to print; name one of start, join, bootstrap/],
      [['start', '--config', path.join(dir, 'none.yaml')], /none\.yaml .* does not exist/],
    ];
    for (const [args, sentence] of cases) {
      const { exitCode, stderr } = await run({}, 'config', ...args);
      assert.notEqual(exitCode, 0);
      assert.match(stderr, sentence);
    }
  });
});

describe('a verb with config file and environment', () => {
  it('is told by them what its flags would tell it, with the same checks', async () => {
    const configured = await run({ MURMURATE_CONFIG: file, MURMURATE_DP_CLIP: '2' }, 'join');
    assert.equal(configured.exitCode, 2);
    // The address of the file is taken: an invite, and a broken one.
    assert.match(configured.stderr, /invite/);
    assert.ok(!configured.stderr.includes('mysecret'));
    const none = await run({ MURMURATE_DATA: 'x.txt' }, 'join');
    assert.match(none.stderr, /nobody to join: give the ADDRESS/);
    const wrong = await run({ MURMURATE_DATA: 'x.txt', MURMURATE_HELD_OUT: '0.6' }, 'start');
    assert.match(wrong.stderr, /--held-out is "0\.6" \(MURMURATE_HELD_OUT\); it must be/);
    const { exitCode, stderr } = await run({ MURMURATE_DIR: '/nonexistent' }, 'export', 'out');
    assert.equal(exitCode, 1);
    assert.match(stderr, /\/nonexistent holds no run/);
  });
});
