import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import '../../../node/net/polyfill.js';
import { runProgram } from '../../../node/cli/program.js';
import { VERBS } from '../../../node/cli/verbs.js';
import { EMBEDDED_MODEL_DIRECTORY, PACKAGE_DIRECTORY, VERSION } from '../../../node/version.js';

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
      [
        ['start', '--data', 'x', '--fold', 'sum'],
        /--fold is "sum"; it must be one of mean, filtered, robust/,
      ],
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
      [['generate', 'x', '--epoch', '3', '--base'], /--epoch is of the swarm’s adapter/],
      [['eval', 'x.txt', '--epoch', '3', '--adapter', 'y'], /give it without --base and --adapter/],
      [['export', 'x', '--epoch', '-1'], /--epoch is "-1"; it must be a whole number from 0 to/],
      [['eval', 'x.txt', '--base', '--personal'], /--personal is of the swarm’s adapter/],
      [['chat', '--adapter', 'y', '--personal'], /give it without --base and --adapter/],
      [['export', 'x', '--epoch', '1', '--personal'], /--personal and --epoch exclude each other/],
      [['generate', 'x', '--base', '--compare'], /there is no adapter to compare/],
      [['generate', 'x', '--top-p', '0'], /--top-p is "0"; it must be above 0 and at most 1/],
      [['chat', '--base', '--compare'], /there is no adapter to compare the base model with/],
      [['chat', '--base', '--format', 'Q:'], /the format "Q:" must hold {} once/],
      [['serve', '--port', '70000'], /--port is "70000"/],
      [['export'], /nothing to write: name a directory for PEFT, --merge DIR or --gguf FILE/],
      [['export', 'x', '--dtype', 'bf16'], /--dtype is how --merge stores weights; give --merge/],
      [['export', '--merge', 'x', '--dtype', 'int8'], /it must be one of fp32, fp16, bf16/],
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
      [['history', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['export', 'out', '--personal', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['generate', 'x', '--epoch', '3', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['compare', '--on', 'a=b', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['generate', 'x', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['eval', 'x.txt', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [['eval', '--base', 'x.txt', 'y.txt'], /x\.txt/],
      [['chat', '--dir', '/nonexistent'], /\/nonexistent holds no run/],
      [
        ['serve', '--base', '--api-key-file', '/nonexistent'],
        /\/nonexistent \(the API key\) does not/,
      ],
    ];
    for (const [args, sentence] of cases) {
      const { exitCode, stderr } = await run(...args);
      assert.equal(exitCode, 1, `${args.join(' ')}: ${stderr}`);
      assert.match(stderr, sentence);
    }
  });
});

describe('peer-id', () => {
  it('makes a key that only its owner may read, and prints the same id each time', async () => {
    const dir = await mkdtemp(path.join(tmpdir(), 'murmurate-peer-id-'));
    try {
      const first = await run('peer-id', '--dir', dir);
      assert.match(first.stdout, /^12D3KooW\w+\n$/);
      assert.equal((await stat(path.join(dir, 'identity.key'))).mode & 0o777, 0o600);
      assert.deepEqual(await run('peer-id', '--dir', dir), first);
    } finally {
      await rm(dir, { recursive: true, force: true });
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
