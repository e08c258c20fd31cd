/** Nothing private leaves a peer: everything that real processes send in a short run, read before it is encrypted. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openTokenizer } from '../../node/data/tokenizer.js';
import { ROOT, TINY_BASE } from '../unit/model/fixtures.js';
import { findCanaries, type Canary } from './canaries.js';
import { CommandLine } from './command-line.js';

/** Lines of data of each peer, and letters of each; random, so that none turns up by chance. */
const LINES = 12;
const LETTERS = 48;

/** Bytes that a connection takes before noise encrypts: names of protocols and public keys. */
const HANDSHAKE_BYTES_MAX = 1_024;

/** Noise adds a length of two bytes and a tag of sixteen to each message. */
const MESSAGE_OVERHEAD_BYTES = 18;

const LOCAL = ['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1'];
const RUN = [
  ...['--rank', '2', '--target-modules', 'q_proj', 'v_proj', '--epochs', '30'],
  ...['--epoch-seconds', '2', '--start-in', '1', '--steps', '2', '--sequence-length', '16'],
  ...['--batch-size', '2'],
];

function letters(count: number): string {
  const random = randomBytes(count);
  return Array.from(random, (byte) => String.fromCharCode(97 + (byte % 26))).join('');
}

/** Words of six letters. */
function sentence(): string {
  return letters(LETTERS)
    .replaceAll(/(.{6})/g, '$1 ')
    .trim();
}

const secret = { host: letters(16), user: letters(16), place: letters(16), file: letters(16) };
const lines = {
  a: Array.from({ length: LINES }, sentence),
  b: Array.from({ length: LINES }, sentence),
};
/** A line of the data that the founder also gives its run as name: it must be found, or nothing proves anything. */
const [published = ''] = lines.a;

let place = '';
let captured = '';
const started: CommandLine[] = [];
const environment = { ...process.env };

before(async () => {
  place = await mkdtemp(join(tmpdir(), `${secret.place}-`));
  captured = join(place, 'captured');
  await mkdir(captured);
  for (const [name, texts] of Object.entries(lines)) {
    const data = texts.map(
      (text) => `${JSON.stringify({ prompt: text.slice(0, 20), completion: text.slice(20) })}\n`,
    );
    await writeFile(join(place, `${secret.file}-${name}.jsonl`), data.join(''));
  }
  const isSource = import.meta.url.endsWith('.ts');
  const capture = new URL(`./capture.${isSource ? 'ts' : 'js'}`, import.meta.url);
  const loader = isSource ? `--import ${import.meta.resolve('tsx')} ` : '';
  Object.assign(process.env, {
    NODE_OPTIONS: `${loader}--import ${capture.href}`,
    CAPTURE_DIR: captured,
    CAPTURE_HOST_NAME: secret.host,
    CAPTURE_USER_NAME: secret.user,
    ...{
      USER: secret.user,
      LOGNAME: secret.user,
      HOSTNAME: secret.host,
      HOME: join(place, 'home'),
    },
  });
});

after(async () => {
  for (const command of started) await command.dispose();
  process.env = environment;
  await rm(place, { recursive: true, force: true });
});

function launch(name: 'a' | 'b', ...args: string[]): CommandLine {
  const own = ['--dir', join(place, name), '--data', join(place, `${secret.file}-${name}.jsonl`)];
  const command = new CommandLine([...args, ...own, ...LOCAL]);
  started.push(command);
  return command;
}

async function canaries(): Promise<Canary[]> {
  const model = { vocabSize: 4096, eosTokenIds: [0], padTokenId: 0 };
  const tokenizer = await openTokenizer(TINY_BASE, model);
  const text = (name: string, texts: readonly string[]): Canary[] =>
    texts.map((line, i) => ({
      name: `line ${i} of ${name}`,
      text: line,
      tokens: tokenizer.encode(line),
    }));
  const bare = { ...secret, path: place, checkout: join(ROOT, 'models') };
  return [
    ...text('a', lines.a),
    ...text('b', lines.b),
    ...Object.entries(bare).map(([name, value]) => ({ name, text: value, tokens: [] })),
  ];
}

/** All that the process sent, before encryption and as it was on the socket. */
async function captureOf({
  pid,
}: CommandLine): Promise<Record<'plain' | 'sent' | 'messages', Buffer>> {
  const read = (kind: string): Promise<Buffer> => readFile(join(captured, `${pid}.${kind}`));
  return { plain: await read('plain'), sent: await read('sent'), messages: await read('messages') };
}

describe('what leaves a peer', () => {
  it('is no training text, file name, path, host name or user name, in any form', async () => {
    const founder = launch('a', 'start', '--name', published, ...RUN);
    const joiner = launch('b', 'join', (await founder.facts()).address);
    for (const peer of [founder, joiner]) {
      const { traffic } = await peer.status('updates of both, some by sync', (report) => {
        const { bytesIn, bytesOut } = report.traffic;
        const isHeard = report.peers.some(({ updatesAccepted }) => updatesAccepted >= 2);
        return isHeard && (bytesIn['sync'] ?? 0) > 0 && (bytesOut['gossip'] ?? 0) > 0;
      });
      assert.deepEqual(
        traffic.sentTo.map(({ peerId }) => peerId !== null),
        [true],
      );
    }
    const told = await CommandLine.run('what-leaves', '--json', '--dir', join(place, 'a'));
    assert.equal(told.exit, 0, told.output());
    const { total } = JSON.parse(told.stdout) as { total: number };
    for (const peer of started) peer.kill('SIGINT');
    for (const peer of started) assert.equal(await peer.ended(), 0, peer.output());

    for (const peer of [founder, joiner]) {
      const { plain, sent, messages } = await captureOf(peer);
      const encrypted = plain.length + MESSAGE_OVERHEAD_BYTES * messages.length;
      // What was read is all that was sent, and no less than the peer says of itself.
      assert.ok(
        Math.abs(sent.length - encrypted) < HANDSHAKE_BYTES_MAX,
        `${sent.length} sent, ${encrypted} read`,
      );
      if (peer === founder) assert.ok(sent.length >= total && total > 0);
      const found = findCanaries(Buffer.concat([plain, sent]), await canaries());
      // The founder published its first line; all else stays where it is.
      assert.deepEqual(found, peer === founder ? ['line 0 of a as utf8'] : []);
    }
    const known = [founder, joiner, told].map(({ pid }) => `${pid}.`);
    const others = (await readdir(captured)).filter(
      (file) => !known.some((pid) => file.startsWith(pid)),
    );
    assert.deepEqual(others, [], 'the training processes send nothing');
  });
});

describe('the search for private text', () => {
  const text = 'wharf lumen quietly';
  const canary: Canary = { name: 'it', text, tokens: [300, 7, 4000, 129, 55] };
  const hidden = (bytes: Buffer): Buffer =>
    Buffer.concat([randomBytes(1001), bytes, randomBytes(1000)]);

  it('finds nothing in random bytes', () => {
    assert.deepEqual(findCanaries(randomBytes(200_000), [canary]), []);
  });

  it('finds eight letters out of the middle, in each encoding', () => {
    const piece = text.slice(3, 12);
    const forms: Record<string, Buffer> = {
      utf8: Buffer.from(piece),
      utf16le: Buffer.from(piece, 'utf16le'),
      utf16be: Buffer.from(piece, 'utf16le').swap16(),
      hex: Buffer.from(Buffer.from(piece).toString('hex')),
    };
    for (const [form, bytes] of Object.entries(forms)) {
      assert.ok(findCanaries(hidden(bytes), [canary]).includes(`it as ${form}`), form);
    }
    for (const before of ['', 'x', 'xy']) {
      const base64 = Buffer.from(`${before}${text}!!`).toString('base64');
      assert.ok(findCanaries(hidden(Buffer.from(base64)), [canary]).includes('it as base64'));
    }
  });

  it('finds tokens as numbers and as JSON', () => {
    const ids = canary.tokens;
    for (const bytes of [
      Buffer.from(Uint16Array.from(ids).buffer),
      Buffer.from(Uint32Array.from(ids).buffer),
      Buffer.from(JSON.stringify(ids)),
    ]) {
      assert.equal(findCanaries(hidden(bytes), [canary]).length, 1);
    }
  });
});
