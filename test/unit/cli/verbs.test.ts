import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import '../../../node/net/polyfill.js';
import { bootstrapVerb } from '../../../node/cli/bootstrap.js';
import { compareVerb } from '../../../node/cli/compare.js';
import { evalVerb } from '../../../node/cli/eval.js';
import { exportVerb } from '../../../node/cli/export.js';
import { extendVerb } from '../../../node/cli/extend.js';
import { inviteVerb } from '../../../node/cli/invite.js';
import { swarmKeyVerb } from '../../../node/cli/swarm-key.js';
import { generateVerb } from '../../../node/cli/generate.js';
import { joinVerb } from '../../../node/cli/join.js';
import { leaveVerb } from '../../../node/cli/leave.js';
import { pauseVerb } from '../../../node/cli/pause.js';
import { runProgram } from '../../../node/cli/program.js';
import { resumeVerb } from '../../../node/cli/resume.js';
import { startVerb } from '../../../node/cli/start.js';
import { statusVerb } from '../../../node/cli/status.js';
import { whatLeavesVerb } from '../../../node/cli/what-leaves.js';
import { EMBEDDED_MODEL_DIRECTORY, PACKAGE_DIRECTORY, VERSION } from '../../../node/version.js';

const VERBS = [
  startVerb,
  joinVerb,
  bootstrapVerb,
  statusVerb,
  whatLeavesVerb,
  pauseVerb,
  resumeVerb,
  leaveVerb,
  extendVerb,
  inviteVerb,
  swarmKeyVerb,
  exportVerb,
  generateVerb,
  evalVerb,
  compareVerb,
];

async function run(
  ...args: string[]
): Promise<{ exitCode: number; stdout: string; stderr: string }> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const { signal } = new AbortController();
  const exitCode = await runProgram(VERBS, args, {
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

describe('every verb', () => {
  for (const verb of VERBS) {
    it(`${verb.name}: --help lists each option and ends in an example that begins with its own command`, async () => {
      const { exitCode, stdout } = await run(verb.name, '--help');
      assert.equal(exitCode, 0);
      for (const name of Object.keys(verb.options)) {
        const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
        assert.match(stdout, new RegExp(`^  ${flag}( |$)`, 'm'));
      }
      assert.match(stdout, new RegExp(`\\nExample:\\n {2}\\$ murmurate ${verb.name}`));
    });

    it(`${verb.name}: an unknown flag exits 2`, async () => {
      const { exitCode, stderr } = await run(verb.name, '--no-such-flag');
      assert.equal(exitCode, 2);
      assert.match(stderr, /^error: unknown option '--no-such-flag'/);
    });
  }

  it('refuses values out of bounds by name before anything is opened', async () => {
    const cases: [string[], RegExp][] = [
      [
        ['start', '--data', 'x', '--rank', '512'],
        /--rank is "512"; it must be a whole number from 1 to 256/,
      ],
      [['start', '--data', 'x', '--http', 'on'], /--http is "on"; .* from 0 to 65535, or off/],
      [['start', '--data', 'x', '--bits', '3'], /--bits is "3"; it must be one of 1, 2, 4/],
      [
        ['start', '--data', 'x', '--fold-alpha', '1/2'],
        /--fold-alpha is "1\/2"; it must be like 0:1\/1/,
      ],
      [['start', '--data', 'x', '--held-out', '0.6'], /--held-out is "0.6"; .* from 0 to 0.5/],
      [
        ['start', '--data', 'x', '--epoch-seconds', '0.4'],
        /--epoch-seconds is "0.4"; .* from 0.5 to 86400, or auto/,
      ],
      [['start'], /no data to train on; name this peer’s text files with --data FILE/],
      [['join', '/ip4/127.0.0.1/tcp/1'], /no data to train on/],
      [['join', 'nowhere', '--data', 'x'], /"nowhere" is not an address/],
      [['start', '--data', 'x', '--bootstrap', 'nowhere'], /"nowhere" is not an address/],
      [['generate', 'x', '--base', '--adapter', 'y'], /--base and --adapter exclude each other/],
      [['eval', 'x.txt', '--base', '--adapter', 'y'], /--base and --adapter exclude each other/],
      [['eval'], /missing required argument 'FILE'/],
      [['eval', 'x.txt', '--sequence-length', '4'], /it must be a whole number from 8 to 131072/],
      [['eval', '--base', 'x.pdf'], /x.pdf: is of an unknown kind: data files are .jsonl/],
      [['status', 'nowhere'], /"nowhere" is not a URL/],
      [['compare'], /nothing to compare on; give texts with --on NAME=FILE/],
      [
        ['compare', '--on', 'clinic.jsonl'],
        /--on is "clinic.jsonl"; it must be a name, "=" and a data file/,
      ],
    ];
    for (const [args, sentence] of cases) {
      const { exitCode, stderr } = await run(...args);
      assert.equal(exitCode, 2, `${args.join(' ')}: ${stderr}`);
      assert.match(stderr, sentence);
    }
  });

  it('says what to do where nothing is: no run, no peer, no URL', async () => {
    const cases: [string[], RegExp][] = [
      [
        ['status', '--dir', '/nonexistent'],
        /no peer with a status server runs in \/nonexistent; start one/,
      ],
      [['status', 'http://127.0.0.1:1'], /no peer answers at http:\/\/127.0.0.1:1; start it again/],
      [['export', 'out', '--dir', '/nonexistent'], /\/nonexistent holds no run; start or join one/],
      [['compare', '--on', 'a=b', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['generate', 'x', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['eval', 'x.txt', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['eval', '--base', 'x.txt', 'y.txt'], /x\.txt/],
    ];
    for (const [args, sentence] of cases) {
      const { exitCode, stderr } = await run(...args);
      assert.equal(exitCode, 1, `${args.join(' ')}: ${stderr}`);
      assert.match(stderr, sentence);
    }
  });
});

describe('the package', () => {
  it('finds its version and its embedded model from wherever this file runs', async () => {
    const manifest = JSON.parse(await readFile(`${PACKAGE_DIRECTORY}/package.json`, 'utf8')) as {
      name: string;
      version: string;
    };
    assert.equal(manifest.name, 'murmurate');
    assert.equal(VERSION, manifest.version);
    assert.match(await readFile(`${EMBEDDED_MODEL_DIRECTORY}/config.json`, 'utf8'), /"llama"/);
    assert.equal((await run('--version')).stdout, `${VERSION}\n`);
  });
});
