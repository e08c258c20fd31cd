import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, describe, it } from 'node:test';
import { askPeer, noPeerRuns } from '../../../node/cli/control.js';
import { pauseVerb } from '../../../node/cli/pause.js';
import { answerOne, answerRequests, type Controls } from '../../../node/cli/requests.js';
import { runProgram } from '../../../node/cli/program.js';
import { resumeVerb } from '../../../node/cli/resume.js';
import { UserError } from '../../../node/errors.js';
import {
  layNote,
  makeNote,
  NOTE_LIFE_MS,
  readNote,
  type ControlRequest,
} from '../../../node/store/control-file.js';
import { DataDirectory } from '../../../node/store/directory.js';
import { lockDirectory } from '../../../node/store/lock.js';
import { readSettings, writeSettings } from '../../../node/store/settings.js';
import { testRun } from '../../support/runs.js';

const made: string[] = [];

after(async () => {
  for (const path of made) await rm(path, { recursive: true, force: true });
});

const SETTINGS = { modelDir: '/m', dataFiles: ['/d'], heldOutShare: 0.1, isResting: false };
const SILENT = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** A directory of a peer that was started once, and what was asked of that peer. */
async function setUp(): Promise<{ directory: DataDirectory; asked: string[]; controls: Controls }> {
  const path = await mkdtemp(join(tmpdir(), 'murmurate-requests-'));
  made.push(path);
  const directory = new DataDirectory(path);
  await directory.writeManifest(testRun().bytes);
  await writeSettings(directory, SETTINGS);
  const asked: string[] = [];
  const controls = {
    rest: (isResting: boolean): void => void asked.push(`rest ${isResting}`),
    extend: (epochs: number): Promise<string | null> => {
      asked.push(`extend ${epochs}`);
      return Promise.resolve(epochs > 40 ? null : 'It takes more than 40.');
    },
    invite: (epochs: number): string => `murmurate1for${epochs}`,
    leave: (): void => void asked.push('leave'),
  };
  return { directory, asked, controls };
}

function request(verb: string, epochs: number | null = null): ControlRequest {
  return { verb, epochs };
}

describe('answerOne()', () => {
  it('carries out each request once, and puts its reply in its place', async () => {
    const { directory, asked, controls } = await setUp();
    const cases: [ControlRequest, string, boolean, RegExp][] = [
      [request('pause'), 'rest true', true, /does not train, also after a restart/],
      [request('resume'), 'rest false', true, /trains again/],
      [request('extend', 60), 'extend 60', true, /^the run has 60 epochs now/],
      [request('extend', 30), 'extend 30', false, /^It takes more than 40\.$/],
      [request('leave'), 'leave', true, /has left its run; start or join .* goes on from here/],
    ];
    for (const [what, expected, isDone, sentence] of cases) {
      const note = makeNote(what, Date.now());
      assert.ok(await layNote(directory, note));
      await answerOne(directory, controls);
      await answerOne(directory, controls);
      assert.deepEqual(asked.splice(0), [expected]);
      const answered = await readNote(directory);
      assert.ok(answered !== null && answered !== 'unreadable');
      assert.equal(answered.id, note.id);
      assert.equal(answered.reply?.isDone, isDone);
      assert.match(answered.reply.sentence, sentence);
      assert.equal((await stat(directory.pathOf('control'))).mode & 0o777, 0o600);
      await directory.remove('control');
    }
  });

  it('remembers a pause, and forgets it on resume', async () => {
    const { directory, controls } = await setUp();
    for (const [verb, isResting] of [
      ['pause', true],
      ['resume', false],
    ] as const) {
      await layNote(directory, makeNote(request(verb), Date.now()));
      await answerOne(directory, controls);
      await directory.remove('control');
      assert.deepEqual(await readSettings(directory), { ...SETTINGS, isResting });
    }
  });

  it('answers a request that it does not know with a sentence, and does nothing', async () => {
    const { directory, asked, controls } = await setUp();
    await layNote(directory, makeNote(request('dance'), Date.now()));
    await answerOne(directory, controls);
    const answered = await readNote(directory);
    assert.ok(answered !== null && answered !== 'unreadable');
    assert.equal(answered.reply?.isDone, false);
    assert.match(answered.reply.sentence, /does not know what "dance" is/);
    assert.deepEqual(asked, []);
  });

  it('clears away, without acting, what is outdated, from the future, too large or no request', async () => {
    const { directory, asked, controls } = await setUp();
    const path = directory.pathOf('control');
    const outdated = makeNote(request('leave'), Date.now() - NOTE_LIFE_MS - 1000);
    const early = makeNote(request('leave'), Date.now() + NOTE_LIFE_MS);
    const long = { ...makeNote(request('leave'), Date.now()), padding: 'x'.repeat(5000) };
    const texts = [outdated, early, long, {}, 7].map((value) => JSON.stringify(value));
    for (const text of [...texts, '', '{', '\0'.repeat(100)]) {
      await writeFile(path, text);
      await answerOne(directory, controls);
      assert.equal(await readNote(directory), null, text.slice(0, 40));
    }
    assert.deepEqual(asked, []);
  });
});

describe('askPeer()', () => {
  const { signal } = new AbortController();

  it('has the running peer answer, one command after the other, and leaves nothing behind', async () => {
    const { directory, asked, controls } = await setUp();
    const { path } = directory;
    const lock = await lockDirectory(path);
    const stop = new AbortController();
    const before = (await readdir(path)).toSorted();
    const answering = answerRequests(directory, controls, SILENT, stop.signal);
    const outcomes = await Promise.allSettled([
      askPeer(path, request('extend', 50), signal, noPeerRuns),
      askPeer(path, request('extend', 3), signal, noPeerRuns),
      askPeer(path, request('pause'), signal, noPeerRuns),
    ]);
    stop.abort();
    await answering;
    assert.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    assert.deepEqual(asked.toSorted(), ['extend 3', 'extend 50', 'rest true']);
    assert.deepEqual((await readdir(path)).toSorted(), before);
    await lock.release();
  });

  it('takes its request back when it is interrupted', async () => {
    const { directory } = await setUp();
    const lock = await lockDirectory(directory.path);
    const abort = new AbortController();
    const asking = askPeer(directory.path, request('leave'), abort.signal, noPeerRuns);
    while ((await readNote(directory)) === null) await new Promise(setImmediate);
    abort.abort(new Error('interrupted'));
    await assert.rejects(asking);
    assert.equal(await readNote(directory), null);
    await lock.release();
  });

  it('has a pause and a resume noted where no peer runs', async () => {
    const { directory } = await setUp();
    for (const [verb, isResting] of [
      [pauseVerb, true],
      [resumeVerb, false],
    ] as const) {
      const [stdout, stderr] = [new PassThrough(), new PassThrough()];
      const io = { stdout, stderr, terminal: false, signal, interrupt: () => undefined };
      assert.equal(await runProgram([verb], [verb.name, '--dir', directory.path], io), 0);
      assert.deepEqual(await readSettings(directory), { ...SETTINGS, isResting });
      assert.match(String(stdout.read()), /^the peer .*\n$/);
    }
    await (await lockDirectory(directory.path)).release();
  });

  it('says so where no peer runs, and where there is no run', async () => {
    const { directory } = await setUp();
    await assert.rejects(
      askPeer(directory.path, request('leave'), signal, noPeerRuns),
      (error) =>
        error instanceof UserError &&
        error.message ===
          `no peer runs in ${directory.path}; start it first, with murmurate start or join`,
    );
    await rm(directory.pathOf('manifest'));
    await assert.rejects(
      askPeer(directory.path, request('leave'), signal, noPeerRuns),
      /holds no run; start or join one there first/,
    );
    await assert.rejects(readFile(directory.pathOf('control')));
  });
});
