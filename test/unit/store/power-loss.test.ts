import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { loadKnownPeers, saveKnownPeers } from '../../../node/net/known-peers.js';
import { loadOrCreateIdentity } from '../../../node/net/identity.js';
import {
  StoreUnavailableError,
  type OptimiserState,
  type RecordPlace,
} from '../../../node/interfaces.js';
import { HeldMoments } from '../../../node/moments.js';
import { gathered } from '../../support/moments.js';
import { DataDirectory } from '../../../node/store/directory.js';
import { FileStore } from '../../../node/store/file-store.js';
import {
  recordsOf,
  sampleMoments,
  sampleSeal,
  sampleState,
  sampleSum,
} from '../../compliance/store.js';
import { cutPower } from '../../support/power-loss.js';
import { RecordingDisk, type Fault, type Operation } from '../../support/recording-disk.js';
import { testIdentity } from '../../support/runs.js';

const RUN_ID = 'ab'.repeat(32);
const MANIFEST = new Uint8Array(900).fill(7);
/** Numbers in a state: its file has several sectors. */
const STATE_SIZE = 100;

// In memory where the system offers it: thousands of small disks are made.
const scratch = await mkdtemp(
  join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'murmurate-power-'),
);
after(() => rm(scratch, { recursive: true, force: true }));

/** What a peer may find after power loss: the first of each list is certain, the others were under way. */
interface Expected {
  directory: boolean;
  peerIds: (string | null)[];
  manifests: ('none' | 'whole')[];
  /** Epochs of states; null for none. */
  states: (number | null)[];
  /** Numbers of log records that were acknowledged, and that may follow them. */
  records: number[];
  recordsUnderWay: number[];
  /** Records that the log may hold instead. */
  instead: number[] | null;
  /** Whether a record of the log may be damaged: it is passed over until the log is compacted. */
  isDamaged: boolean;
  /** Epochs of moments and of seals; null for none. */
  moments: (number | null)[];
  seals: (number | null)[];
  /** Epochs whose sums are there. */
  sums: number[];
  /** Epoch-like number of known-peers.json: how many peers it names. */
  known: number[];
}

const NOTHING: Expected = {
  directory: false,
  peerIds: [null],
  manifests: ['none'],
  states: [null],
  records: [],
  recordsUnderWay: [],
  instead: null,
  isDamaged: false,
  moments: [null],
  seals: [null],
  sums: [],
  known: [0],
};

/** A record of one to four sectors that tells its number. */
function record(number: number): Uint8Array {
  return new Uint8Array([40, 700, 1600][number % 3] ?? 40).fill(number);
}

function knownPeers(count: number): { peerId: string; addresses: string[] }[] {
  return Array.from({ length: count }, (_, i) => {
    const { peerId } = testIdentity(i, 'known');
    return { peerId, addresses: [`/ip4/10.0.0.${i + 1}/tcp/4001/p2p/${peerId}`] };
  });
}

/** One life of a data directory: what it does, and what of it may be relied on. */
class Scenario {
  readonly directory: DataDirectory;
  store: FileStore;
  expected: Expected = NOTHING;
  /** Where each record lies in the log. */
  readonly places = new Map<number, RecordPlace>();

  constructor(
    readonly path: string,
    readonly recorder: RecordingDisk,
  ) {
    this.directory = new DataDirectory(path);
    this.store = new FileStore(this.directory, RUN_ID);
  }

  /** Until `act` is done either may be found, from then on what `done` says. A refused write is repeated. */
  async step(
    under: Partial<Expected>,
    act: () => Promise<unknown>,
    done: () => Partial<Expected>,
  ): Promise<void> {
    this.recorder.note({ ...this.expected, ...under });
    for (let attempt = 0; ; attempt++) {
      try {
        await act();
        break;
      } catch (error) {
        assert.match(
          String(error),
          /^(StoreUnavailableError: cannot \w+|UserError: the key file) .*(;|:) /s,
        );
        assert.ok(attempt < 3, `still refused: ${String(error)}`);
      }
    }
    this.expected = { ...this.expected, ...done() };
    this.recorder.note(this.expected);
  }

  async save(epoch: number): Promise<void> {
    await this.step(
      { states: [...this.expected.states, epoch] },
      () => this.store.saveState(sampleState(epoch, STATE_SIZE)),
      () => ({ states: [epoch] }),
    );
  }

  async saveMoments(epoch: number): Promise<void> {
    await this.step(
      { moments: [...this.expected.moments, epoch] },
      () => this.store.saveMoments(new HeldMoments(sampleMoments(epoch, STATE_SIZE))),
      () => ({ moments: [epoch] }),
    );
  }

  async append(...numbers: number[]): Promise<void> {
    const waiting = new Set(numbers);
    const done: number[] = [];
    await this.step(
      { recordsUnderWay: numbers },
      async () => {
        // What was refused is appended again.
        const results = await Promise.allSettled(
          [...waiting].map(async (number) => {
            this.places.set(number, await this.store.appendLog(record(number)));
            waiting.delete(number);
            done.push(number);
          }),
        );
        for (const result of results) if (result.status === 'rejected') throw result.reason;
      },
      () => ({ records: [...this.expected.records, ...done], recordsUnderWay: [] }),
    );
  }

  /** A new process opens the directory: what it sees it relies on. */
  async open(): Promise<void> {
    const { directory } = this;
    await this.step(
      {},
      () => directory.create(),
      () => ({ directory: true }),
    );
    let peerId: string | null = null;
    await this.step(
      // A key that is being made may be found, whichever it is.
      { peerIds: this.expected.peerIds.includes(null) ? [null, 'any'] : this.expected.peerIds },
      async () => ({ peerId } = await loadOrCreateIdentity(directory.pathOf('identity'))),
      () => ({ peerIds: [peerId] }),
    );
    this.store = new FileStore(directory, RUN_ID);
    let state: number | null = null;
    await this.step(
      {},
      async () => (state = (await this.store.loadState())?.epoch ?? null),
      () => ({ states: [state] }),
    );
    let moments: number | null = null;
    await this.step(
      {},
      async () => (moments = epochOf(await gathered(this.store.loadMoments()))),
      () => ({ moments: [moments] }),
    );
    let seal: number | null = null;
    await this.step(
      {},
      async () => (seal = (await this.store.loadSeal())?.epoch ?? null),
      () => ({ seals: [seal] }),
    );
    await this.load();
  }

  async load(): Promise<void> {
    let records: number[] = [];
    await this.step(
      {},
      async () => {
        const found = await recordsOf(this.store);
        records = numbersOf(found.map(({ bytes }) => bytes));
        this.places.clear();
        for (const [i, { place }] of found.entries()) this.places.set(records[i] ?? -1, place);
      },
      () => ({ records, recordsUnderWay: [], instead: null }),
    );
  }

  /** Every record that is there can be read at its place. */
  look(): void {
    for (const number of this.expected.records) {
      const bytes = this.store.readLog(
        this.places.get(number) ?? assert.fail(`no place of ${number}`),
      );
      assert.equal(Buffer.compare(bytes, record(number)), 0, `record ${number} by its place`);
    }
  }

  async found(): Promise<void> {
    await this.step(
      { manifests: ['none', 'whole'] },
      () => this.directory.writeManifest(MANIFEST),
      () => ({ manifests: ['whole'] }),
    );
  }

  /** The sum first, then the seal that goes with it. */
  async adopt(epoch: number): Promise<void> {
    await this.step(
      {},
      () => this.store.saveSum(epoch, sampleSum(epoch, STATE_SIZE)),
      () => ({ sums: [...this.expected.sums, epoch] }),
    );
    // Older ones than the one before may go as soon as the seal is there.
    const kept = this.expected.sums.slice(-2);
    await this.step(
      { seals: [...this.expected.seals, epoch], sums: kept },
      () => this.store.saveSeal(sampleSeal(epoch)),
      () => ({ seals: [epoch], sums: kept }),
    );
  }

  /** Replaces the log by a new record and those in `left`, which it holds. */
  async compact(added: number, ...left: number[]): Promise<void> {
    const all = [added, ...left];
    await this.step(
      { instead: all },
      () =>
        this.store.compactLog(
          [record(added), ...left.map((number) => this.places.get(number) ?? assert.fail())],
          (moved) => {
            this.places.clear();
            for (const [i, number] of all.entries()) this.places.set(number, moved[i] ?? -1);
          },
        ),
      () => ({ records: all, instead: null, isDamaged: false }),
    );
    this.look();
  }

  async meet(count: number): Promise<void> {
    await this.step(
      { known: [...this.expected.known, count] },
      async () => {
        await saveKnownPeers(this.directory.pathOf('peers'), knownPeers(count)).catch(
          (error: unknown) => {
            throw new StoreUnavailableError(`cannot save the peers: ${String(error)}`);
          },
        );
      },
      () => ({ known: [count] }),
    );
  }
}

/** The epoch of sampleMoments(). */
function epochOf(moments: OptimiserState | null): number | null {
  return moments === null ? null : (moments.step - 7) / 10;
}

function numbersOf(records: readonly Uint8Array[]): number[] {
  return records.map((bytes) => {
    const number = bytes[0] ?? -1;
    assert.equal(Buffer.compare(bytes, record(number)), 0, `record ${number}`);
    return number;
  });
}

/** The life of a peer: founding, three epochs, a restart, damage to both files. */
async function life(scenario: Scenario, epochs = 3): Promise<void> {
  const { recorder, directory } = scenario;
  await scenario.open();
  await scenario.found();
  for (let epoch = 0; epoch < epochs; epoch++) {
    await scenario.save(epoch);
    await scenario.saveMoments(epoch);
    await scenario.append(3 * epoch + 1);
    await scenario.append(3 * epoch + 2, 3 * epoch + 3);
    await scenario.meet(epoch + 1);
  }
  await scenario.open();
  await scenario.append(20);
  const log = new Uint8Array(await readFile(directory.pathOf('log')));
  // A byte inside of the first record, which 40 bytes of header and 12 of frame precede.
  log[60] = 99;
  const withoutFirst = scenario.expected.records.filter((number) => number !== 1);
  recorder.tamper(directory.pathOf('log'), log);
  recorder.note(
    (scenario.expected = { ...scenario.expected, records: withoutFirst, isDamaged: true }),
  );
  await scenario.open();
  const state = new Uint8Array(await readFile(directory.pathOf('state')));
  state[30] = 99;
  recorder.tamper(directory.pathOf('state'), state);
  recorder.note((scenario.expected = { ...scenario.expected, states: [null] }));
  await scenario.open();
  await scenario.adopt(4);
  await scenario.compact(30, 3, 20);
  await scenario.save(5);
  await scenario.append(21);
  await scenario.adopt(8);
  await scenario.saveMoments(8);
  await scenario.adopt(12);
  await scenario.compact(31, 21, 20);
  const seal = new Uint8Array(await readFile(directory.pathOf('seal')));
  seal[30] = 99;
  recorder.tamper(directory.pathOf('seal'), seal);
  recorder.note((scenario.expected = { ...scenario.expected, seals: [null] }));
  await scenario.open();
  await scenario.append(22);
  scenario.look();
}

/** Runs `act` on a recorded directory of its own, and `next` in a new process when it ended or was killed. */
async function recorded(
  name: string,
  act: (scenario: Scenario) => Promise<void>,
  faultAt: (index: number, name: string) => Fault = () => null,
  next?: (scenario: Scenario) => Promise<void>,
): Promise<Scenario> {
  const recorder = new RecordingDisk();
  recorder.faultAt = faultAt;
  const scenario = new Scenario(join(scratch, name, 'peer'), recorder);
  try {
    recorder.note(NOTHING);
    await Promise.race([act(scenario), recorder.killed]);
    await recorder.revive();
    if (next) {
      // What was under way may have been done.
      scenario.expected = (
        recorder.trace.findLast(({ kind }) => kind === 'note') as { note: Expected }
      ).note;
      await next(scenario);
    }
  } finally {
    recorder.close();
  }
  return scenario;
}

/** Why what is found at `path` is not what was to be expected; null when it is. */
async function fault(path: string, expected: Expected): Promise<string | null> {
  try {
    const directory = new DataDirectory(path);
    if (expected.directory && !existsSync(path)) return 'the directory is gone';
    await directory.create();
    const identityFile = directory.pathOf('identity');
    const hadKey = existsSync(identityFile);
    const { peerId } = await loadOrCreateIdentity(identityFile);
    const isKnown = expected.peerIds.includes(peerId) || expected.peerIds.includes('any');
    if (hadKey ? !isKnown : !expected.peerIds.includes(null)) return 'another identity';
    const manifest = await directory.readManifest();
    if (manifest !== null) assert.deepEqual(new Uint8Array(manifest), MANIFEST);
    if (!expected.manifests.includes(manifest === null ? 'none' : 'whole')) return 'no manifest';
    const known = await loadKnownPeers(directory.pathOf('peers'));
    if (known === null || !expected.known.includes(known.length)) return 'other known peers';
    const store = new FileStore(directory, RUN_ID);
    const state = await store.loadState();
    const epoch = state?.epoch ?? null;
    if (!expected.states.includes(epoch)) return `state ${epoch}, not ${expected.states.join()}`;
    if (epoch !== null) assert.deepEqual(state, sampleState(epoch, STATE_SIZE));
    const moments = await gathered(store.loadMoments());
    const momentsEpoch = epochOf(moments);
    if (!expected.moments.includes(momentsEpoch)) return `moments ${momentsEpoch}`;
    if (momentsEpoch !== null) assert.deepEqual(moments, sampleMoments(momentsEpoch, STATE_SIZE));
    const seal = await store.loadSeal();
    if (!expected.seals.includes(seal?.epoch ?? null)) return `seal ${seal?.epoch}`;
    if (seal !== null) assert.deepEqual(seal, sampleSeal(seal.epoch));
    for (const epoch of [...expected.sums, ...(seal === null ? [] : [seal.epoch])])
      assert.deepEqual(await store.loadSum(epoch), sampleSum(epoch, STATE_SIZE), `sum ${epoch}`);
    const found = await recordsOf(store);
    for (const { bytes, place } of found)
      assert.deepEqual(Uint8Array.from(store.readLog(place)), bytes);
    const records = numbersOf(found.map(({ bytes }) => bytes));
    // The log is a set: of appends under way any part may be there.
    const late = expected.recordsUnderWay.filter((number) => records.includes(number));
    const isWhole = records.join() === [...expected.records, ...late].join();
    if (!isWhole && records.join() !== expected.instead?.join()) {
      return `log ${records.join()}, not ${expected.records.join()} + ${expected.recordsUnderWay.join()}`;
    }
    await store.appendLog(record(77));
    await store.saveState(sampleState(78, STATE_SIZE));
    const again = new FileStore(directory, RUN_ID);
    assert.equal((await again.loadState())?.epoch, 78);
    const after = (await recordsOf(again)).map(({ bytes }) => bytes);
    assert.deepEqual(numbersOf(after), [...records, 77]);
    const passedOver = /1 damaged record was passed over/;
    // What stays in the file: damage, and of appends that shared a sync one that did not get there.
    const isPassed = expected.isDamaged || store.warnings.some((one) => passedOver.test(one));
    const others = again.warnings.filter((one) => !isPassed || !passedOver.test(one));
    assert.deepEqual(others, []);
    return null;
  } catch (error) {
    return String(error);
  }
}

function cut(
  { path }: Scenario,
  trace: readonly Operation[],
  options?: { from?: number; faultsMax?: number },
): Promise<{ states: number; faults: string[] }> {
  const place = join(scratch, 'rebuilt');
  return cutPower(trace, { from: path, to: place }, NOTHING, (note) => fault(place, note), options);
}

describe('a data directory that loses power', () => {
  it('has the old or the new of everything, and all that was acknowledged, after every operation', async (t) => {
    const scenario = await recorded('life', (scenario) => life(scenario));
    const { trace, count } = scenario.recorder;
    const { states, faults } = await cut(scenario, trace);
    t.diagnostic(`${count} operations, ${states} disks`);
    assert.ok(count > 100 && states > 1000);
    assert.deepEqual(faults, []);
  });

  it('keeps what was acknowledged when appends failed before: half written, or not synced', async () => {
    for (const errno of ['ENOSPC', 'EIO']) {
      let left = 2;
      const scenario = await recorded(
        `failed-${errno}`,
        async (life) => {
          await life.open();
          await life.append(1, 2);
          left = 2;
          await life.append(3);
          await life.append(4, 5, 6);
        },
        (_, name) => {
          const log = join(scratch, `failed-${errno}`, 'peer', 'log.bin');
          const isHit = name === (errno === 'EIO' ? `sync ${log}` : `write ${log}`);
          return isHit && left-- > 0 ? { errno, halfWritten: true } : null;
        },
      );
      const { faults } = await cut(scenario, scenario.recorder.trace);
      assert.deepEqual(faults, []);
    }
  });

  it('keeps what a process has seen that began after another was killed at any operation', async (t) => {
    let disks = 0;
    for (let at = 0, isKilled = true; isKilled; at++) {
      isKilled = false;
      const scenario = await recorded(
        `killed-${at}`,
        async (life) => {
          await life.open();
          await life.save(1);
          await life.append(1, 2);
          await life.saveMoments(2);
          await life.adopt(4);
          await life.compact(3, 2);
          await life.adopt(8);
        },
        (index) => {
          isKilled ||= index === at;
          return index === at ? 'kill' : null;
        },
        async (life) => {
          await life.open();
        },
      );
      const { trace } = scenario.recorder;
      const { states, faults } = await cut(scenario, trace, { from: trace.length });
      disks += states;
      assert.deepEqual(faults, [], `killed at operation ${at}`);
    }
    t.diagnostic(`${disks} disks`);
    assert.ok(disks > 50);
  });

  const OMISSIONS: Readonly<Record<string, (operation: Operation) => boolean>> = {
    'syncing a file before it is renamed': ({ kind, ...rest }) =>
      kind === 'sync' && 'path' in rest && rest.path.endsWith('.tmp'),
    'syncing an append': ({ kind, ...rest }) =>
      kind === 'sync' && 'path' in rest && rest.path.endsWith('log.bin'),
    'syncing the directory of a renamed file': ({ kind, ...rest }) =>
      kind === 'sync-directory' && 'path' in rest && rest.path.endsWith('/peer'),
    'syncing the parent of a new directory': ({ kind, ...rest }) =>
      kind === 'sync-directory' && 'path' in rest && !rest.path.endsWith('/peer'),
  };
  for (const [what, isLeftOut] of Object.entries(OMISSIONS)) {
    it(`would be found broken without ${what}`, async () => {
      const scenario = await recorded(`without-${what.replaceAll(' ', '-')}`, (of) => life(of, 1));
      const trace = scenario.recorder.trace.filter((operation) => !isLeftOut(operation));
      const { faults } = await cut(scenario, trace, { faultsMax: 1 });
      assert.equal(faults.length, 1);
    });
  }
});

describe('a disk that refuses one operation, whichever', () => {
  it('loses nothing: the error is a StoreUnavailableError, and the next try succeeds', async (t) => {
    const whole = await recorded('whole', (scenario) => life(scenario, 1));
    const { count } = whole.recorder;
    for (let at = 0; at < count; at++) {
      const errno = ['ENOSPC', 'EIO', 'EROFS'][at % 3] ?? 'EIO';
      const scenario = await recorded(
        `refused-${at}`,
        (of) => life(of, 1),
        (index) => (index === at ? { errno, halfWritten: errno === 'ENOSPC' } : null),
      );
      const { expected } = scenario;
      assert.deepEqual(expected.records.toSorted(), whole.expected.records.toSorted());
      assert.deepEqual(expected.states, whole.expected.states);
      assert.equal(await fault(scenario.path, expected), null, `${errno} at operation ${at}`);
    }
    t.diagnostic(`${count} operations`);
  });
});
