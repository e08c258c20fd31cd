/** The parts of the demonstration that decide: what is asked, what counts as success, what is stopped. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { heldOutExamples, questionsOf } from '../../../examples/three-offices/held-out.js';
import { officeExamples, SEED } from '../../../examples/three-offices/make-data.js';
import { OFFICES } from '../../../examples/three-offices/offices.js';
import { DemoError, Program, STOP_GRACE_MS } from '../../../examples/three-offices/processes.js';
import { describePeers } from '../../../examples/three-offices/progress.js';
import {
  meanLoss,
  shortcomings,
  type Losses,
  type PeerResult,
} from '../../../examples/three-offices/report.js';
import { allFinished, type PeerStatus } from '../../../examples/three-offices/status.js';
import { renderReport } from '../../../examples/three-offices/table.js';
import { Watch } from '../../../examples/three-offices/watch.js';

const NEVER = new AbortController().signal;
let directory = '';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'three-offices-'));
});

after(async () => {
  await rm(directory, { recursive: true });
});

function peer(peerId: string, adapterSha256: string, clinic: Losses, shop: Losses): PeerResult {
  const heldOutLoss = { clinic, 'machine-shop': shop };
  return {
    peerId,
    adapterSha256,
    heldOutLoss,
    bytesSent: 1500,
    bytesReceived: 2500,
    adapterDir: '/a',
  };
}

test('every held-out question asks for a fact that the same office states in other words', () => {
  for (const office of OFFICES) {
    const heldOut = heldOutExamples(office);
    const share = heldOut.length / officeExamples(office, SEED).length;
    assert.ok(share > 0.05 && share < 0.2, `${office.name}: ${share}`);
    const trained = new Set(officeExamples(office, SEED).map(({ prompt }) => prompt));
    for (const { prompt } of heldOut) trained.delete(prompt);
    for (const { prompt, completion } of heldOut) {
      const others = office.topics.flatMap(({ subjects, answers, phrasings }) =>
        answers.includes(completion.trim())
          ? subjects
              .filter((subject) => phrasings.some((p) => prompt.includes(p.replace('{}', subject))))
              .flatMap((subject) => phrasings.map((p) => `Q: ${p.replace('{}', subject)}\nA:`))
          : [],
      );
      assert.equal(others.length, 8, prompt);
      assert.ok(others.filter((other) => trained.has(other)).length >= 4, prompt);
    }
  }
});

test('the questions asked by eye are held out, one of a topic', () => {
  for (const office of OFFICES) {
    const questions = questionsOf(office, 3);
    assert.equal(questions.length, 3);
    const heldOut = new Set(heldOutExamples(office).map(({ prompt }) => prompt));
    assert.ok(questions.every(({ prompt }) => heldOut.has(prompt)));
    const topics = questions.map(({ completion }) =>
      office.topics.findIndex(({ answers }) => answers.includes(completion.trim())),
    );
    assert.equal(new Set(topics).size, 3);
  }
});

test('success needs one adapter and, at every peer, a mean over all offices below alone', () => {
  // Worse on its own office and far better on the other: the mean decides.
  const good = peer(
    'p',
    'aa',
    { base: 5, alone: 0.1, swarm: 0.3, personal: 0.2 },
    { base: 5, alone: 6, swarm: 1, personal: 1.25 },
  );
  assert.equal(meanLoss(good, 'swarm'), 0.65);
  assert.equal(meanLoss(good, 'personal'), 0.725);
  assert.deepEqual(shortcomings({ run: 'r', peers: [good, { ...good, peerId: 'q' }] }), []);

  const other = { ...good, adapterSha256: 'bb' };
  assert.match(shortcomings({ run: 'r', peers: [good, other] })[0] ?? '', /2 different adapters/);

  const same = { base: 5, alone: 1, swarm: 1, personal: 1 };
  const equal = peer('q', 'aa', same, same);
  assert.match(shortcomings({ run: 'r', peers: [good, equal] })[0] ?? '', /Peer q .* not below/);

  const nan = peer('n', 'aa', { ...same, swarm: NaN }, { ...same, swarm: 0 });
  assert.equal(shortcomings({ run: 'r', peers: [nan] }).length, 1);
});

test('the table shows every loss, the mean, the traffic and the answers', () => {
  const losses = { base: 5.125, alone: 0.5, swarm: 0.25, personal: 0.125 };
  const shop = { base: 4, alone: 6, swarm: 0.75, personal: 1.5 };
  const one = peer('p', 'ab'.repeat(32), losses, shop);
  const answer = {
    office: 'clinic',
    prompt: 'Q: Which room?\nA:',
    expected: ' Room 3.',
    before: ' the\nman',
    answerer: 'machine-shop',
    after: ' Room 3.',
  };
  const text = renderReport(['clinic'], { run: 'r', peers: [one] }, [answer]);
  for (const shown of [
    '5.125',
    '0.750',
    '3.250',
    '0.125',
    '0.813',
    '2 kB',
    '3 kB',
    'Which room?',
    'the man',
  ]) {
    assert.ok(text.includes(shown), shown);
  }
  assert.ok(text.includes('ab'.repeat(32)));
});

test('progress tells each peer by its state, then by its loss of the base and now', () => {
  const state = (base: number | null, now: number | null): PeerStatus => ({
    peerId: 'p',
    run: { id: 'r', epoch: 3, epochsMax: 24, state: 'training' },
    training: { step: 30, tokensPerSecond: 900 },
    adapter: { sha256: 'aa', updates: 9 },
    heldOutLoss: { base, now },
    traffic: { bytesIn: { total: 1 }, bytesOut: { total: 1 } },
    attention: [],
  });
  const names = ['a', 'b', 'c', 'd'];
  const statuses = [null, state(null, null), state(4.588, null), state(4.242, 0.126)];
  assert.equal(describePeers(names, statuses), 'a starting | b training | c 4.59 | d 4.24 -> 0.13');
});

test('the swarm has finished when all are finished, in one run, with one adapter', () => {
  const status: PeerStatus = {
    peerId: 'p',
    run: { id: 'r', epoch: 24, epochsMax: 24, state: 'finished' },
    training: { step: 240, tokensPerSecond: null },
    adapter: { sha256: 'aa', updates: 72 },
    heldOutLoss: { base: 5, now: 1 },
    traffic: { bytesIn: { total: 1 }, bytesOut: { total: 1 } },
    attention: [],
  };
  assert.equal(allFinished([status, { ...status, peerId: 'q' }]), true);
  assert.equal(allFinished([status, null]), false);
  assert.equal(allFinished([status, { ...status, run: { ...status.run, state: 'idle' } }]), false);
  assert.equal(allFinished([status, { ...status, run: { ...status.run, id: 's' } }]), false);
  assert.equal(allFinished([status, { ...status, adapter: { sha256: 'bb', updates: 71 } }]), false);
  assert.equal(allFinished([]), false);
});

test('a deadline says what was awaited', async () => {
  const watch = new Watch(50, NEVER);
  await assert.rejects(
    watch.until('the moon', () => Promise.resolve(null)),
    (error) => error instanceof DemoError && /gave up .* waiting for the moon/.test(error.message),
  );
});

test('an interruption ends the waiting with its own reason', async () => {
  const outer = new AbortController();
  const watch = new Watch(60_000, outer.signal);
  const waiting = watch.until('the moon', () => Promise.resolve(null));
  outer.abort(new RangeError('stop'));
  await assert.rejects(waiting, RangeError);
  watch.end();
});

test('a program that fails is reported with its name, exit code and last words', async () => {
  const script = join(directory, 'fails.mjs');
  await writeFile(
    script,
    "console.log('out'); console.error('error: no such thing');process.exitCode = 3;",
  );
  const program = new Program('probe', [script], join(directory, 'fails.log'));
  await assert.rejects(
    program.result(NEVER),
    (error) =>
      error instanceof DemoError &&
      /"probe" ended early \(exit code 3\): error: no such thing/.test(error.message),
  );
  assert.throws(() => program.assertAlive(), DemoError);
  assert.match(await readFile(join(directory, 'fails.log'), 'utf8'), /out/);
});

test('a program that ignores SIGINT is killed after the grace', async () => {
  const script = join(directory, 'stubborn.mjs');
  await writeFile(
    script,
    "process.on('SIGINT', () => console.log('no'));setInterval(() => {}, 1000);console.log('ready');",
  );
  const program = new Program('stubborn', [script], join(directory, 'stubborn.log'));
  const watch = new Watch(20_000, NEVER);
  await watch.until('the script', () => Promise.resolve(program.stdout.includes('ready') || null));
  watch.end();
  const begin = performance.now();
  await program.stop();
  const tookMs = performance.now() - begin;
  assert.ok(tookMs > STOP_GRACE_MS - 100 && tookMs < STOP_GRACE_MS + 1000, `${tookMs} ms`);
  assert.match(program.stdout, /no/);
});
