/**
 * A model of a disk that loses its power, after Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014).
 * What was not synced may be there, be missing, or be there in part, each change on its own and in any order: a
 * write in whole sectors, or as a longer file without its bytes; a name only once its directory was synced. A write
 * whose sync failed may be lost although a later sync succeeds, as on Linux.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Prng } from '../../protocol/prng.js';
import type { Operation } from './recording-disk.js';

/** A disk writes one sector or none of it, never a part. */
const SECTOR_BYTES = 512;

/** What became of one change that was not synced. */
type Fate = 'whole' | 'lost' | 'first half' | 'odd sectors' | 'zeros' | 'garbage';
const TORN: readonly Fate[] = ['first half', 'odd sectors', 'zeros', 'garbage'];

/** Up to so many changes every subset of them is tried; with more each alone, each missing, and random ones. */
const EXHAUSTIVE_MAX = 6;
const RANDOM_STATES = 4;

type Change =
  Extract<Operation, { kind: 'create' | 'write' | 'truncate' | 'tamper' | 'rename' }> | Named;
type Named = Extract<Operation, { kind: 'remove' | 'mkdir' | 'sync-directory' }>;

/** What is on a disk: the content of each file, null for a directory. */
export type DiskState = Map<string, Uint8Array | null>;

/**
 * Cuts the power after each operation of `trace` from number `from` on, in every way, and asks `fault` what is
 * wrong with the disk rebuilt at `place.to`; it gets the scenario's last note, `before` at first. Ends after
 * `faultsMax` faults.
 */
export async function cutPower<Note>(
  trace: readonly Operation[],
  place: { from: string; to: string },
  before: Note,
  fault: (note: Note) => Promise<string | null>,
  { from = 0, faultsMax = 5 } = {},
): Promise<{ states: number; faults: string[] }> {
  const random = new Prng(Uint8Array.of(1), 'power loss');
  const seen = new Set<string>();
  const faults: string[] = [];
  let note = before;
  for (let length = 0; length <= trace.length; length++) {
    const last = trace[length - 1];
    if (last?.kind === 'note') note = last.note as Note;
    // After tampering the next note says what to expect.
    if (length < from || last?.kind === 'tamper') continue;
    for (const { state, key } of statesAfter(trace.slice(0, length), random)) {
      const id = `${JSON.stringify(note)}\n${key}`;
      if (seen.has(id)) continue;
      seen.add(id);
      writeState(state, place.from, place.to);
      const found = await fault(note);
      if (found !== null)
        faults.push(`operation ${length} of ${trace.length}, ${nameOf(last)}: ${found}`);
      if (faults.length >= faultsMax) return { states: seen.size, faults };
    }
  }
  return { states: seen.size, faults };
}

function nameOf(operation: Operation | undefined): string {
  if (operation === undefined) return 'none';
  return 'path' in operation ? `${operation.kind} ${operation.path}` : operation.kind;
}

/** Every state, without repetition, that power lost right after `trace` may leave behind. */
function* statesAfter(
  trace: readonly Operation[],
  random: Prng,
): Generator<{ state: DiskState; key: string }> {
  const { changes, open } = unsynced(trace);
  const seen = new Set<string>();
  for (const fates of choices(changes, open, random)) {
    const state = rebuild(changes, fates);
    const key = [...state]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(
        ([name, bytes]) =>
          `${name}:${bytes === null ? '/' : Buffer.from(bytes).toString('base64')}`,
      )
      .join('\n');
    if (seen.has(key)) continue;
    seen.add(key);
    yield { state, key };
  }
}

/** Makes `to` what `state` says that `from` was. */
function writeState(state: DiskState, from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  for (const [name, bytes] of state) {
    const target = path.join(to, path.relative(from, name));
    if (bytes === null) mkdirSync(target, { recursive: true });
    else writeFileSync(target, bytes);
  }
}

/** The changes of a trace in order, and which of them are not certain to be on the disk. */
function unsynced(trace: readonly Operation[]): { changes: Change[]; open: number[] } {
  const changes: Change[] = [];
  const open = new Set<number>();
  const doomed = new Set<number>();
  for (const operation of trace) {
    switch (operation.kind) {
      case 'note':
        break;
      case 'sync':
      case 'failed-sync':
        for (const at of open) {
          const change = changes[at];
          const isData = change?.kind === 'write' || change?.kind === 'truncate';
          if (!isData || change.file !== operation.file || doomed.has(at)) continue;
          if (operation.kind === 'sync') open.delete(at);
          else doomed.add(at);
        }
        break;
      case 'sync-directory':
        for (const at of open) {
          const change = changes[at];
          if (change && directoryOf(change) === operation.path) open.delete(at);
        }
        break;
      case 'tamper':
        changes.push(operation);
        break;
      default:
        open.add(changes.push(operation) - 1);
    }
  }
  return { changes, open: [...open] };
}

function directoryOf(change: Change): string | null {
  if (change.kind === 'write' || change.kind === 'truncate' || change.kind === 'tamper')
    return null;
  return path.dirname(change.kind === 'rename' ? change.to : change.path);
}

function* choices(
  changes: readonly Change[],
  open: readonly number[],
  random: Prng,
): Generator<Map<number, Fate>> {
  const draw = (of: (at: number) => Fate): Map<number, Fate> =>
    new Map(open.map((at) => [at, of(at)]));
  yield draw(() => 'lost');
  yield draw(() => 'whole');
  if (open.length <= EXHAUSTIVE_MAX) {
    for (let mask = 1; mask < 2 ** open.length - 1; mask++) {
      yield draw((at) => ((mask >> open.indexOf(at)) & 1 ? 'whole' : 'lost'));
    }
  }
  for (const one of open) {
    yield draw((at) => (at === one ? 'whole' : 'lost'));
    yield draw((at) => (at === one ? 'lost' : 'whole'));
    yield draw((at) => (at <= one ? 'whole' : 'lost'));
    if (changes[one]?.kind !== 'write') continue;
    for (const fate of TORN) {
      yield draw((at) => (at === one ? fate : 'whole'));
      yield draw((at) => (at === one ? fate : at < one ? 'whole' : 'lost'));
    }
  }
  const fates: readonly Fate[] = ['whole', 'lost', ...TORN];
  for (let i = 0; i < RANDOM_STATES && open.length > EXHAUSTIVE_MAX; i++) {
    yield draw(() => fates[Math.floor(random.nextFloat() * fates.length)] ?? 'lost');
  }
}

function rebuild(changes: readonly Change[], fates: ReadonlyMap<number, Fate>): DiskState {
  const names = new Map<string, number | null>();
  const contents = new Map<number, Uint8Array>();
  const made = new Set(changes.map((change) => (change.kind === 'mkdir' ? change.path : '')));
  changes.forEach((change, at) => {
    const fate = fates.get(at) ?? 'whole';
    if (fate === 'lost') return;
    if (change.kind === 'create') names.set(change.path, change.file);
    else if (change.kind === 'mkdir') names.set(change.path, null);
    else if (change.kind === 'remove') names.delete(change.path);
    else if (change.kind === 'rename') {
      names.delete(change.from);
      names.set(change.to, change.file);
    } else if (change.kind === 'tamper') {
      contents.set(change.file, change.bytes);
    } else if (change.kind === 'truncate') {
      contents.set(change.file, resized(contents.get(change.file), change.size));
    } else if (change.kind === 'write') {
      contents.set(change.file, written(contents.get(change.file), change, fate));
    }
  });
  const state: DiskState = new Map();
  for (const [name, file] of [...names].sort(([a], [b]) => (a < b ? -1 : 1))) {
    // What lies in a directory that was lost is lost with it.
    const parent = path.dirname(name);
    if (made.has(parent) && !state.has(parent)) continue;
    state.set(name, file === null ? null : (contents.get(file) ?? new Uint8Array(0)));
  }
  return state;
}

function resized(bytes: Uint8Array | undefined, size: number): Uint8Array {
  const result = new Uint8Array(size);
  if (bytes) result.set(bytes.subarray(0, size));
  return result;
}

function written(
  before: Uint8Array | undefined,
  { position, bytes }: { position: number; bytes: Uint8Array },
  fate: Fate,
): Uint8Array {
  const end = position + bytes.length;
  const sizeBefore = before?.length ?? 0;
  const result = resized(before, Math.max(sizeBefore, end));
  if (fate === 'zeros') return result;
  if (fate === 'garbage') return result.fill(0xa5, Math.min(sizeBefore, end), end);
  const first = Math.floor(position / SECTOR_BYTES);
  const last = Math.floor((end - 1) / SECTOR_BYTES);
  for (let sector = first; sector <= last; sector++) {
    if (fate === 'first half' && sector > (first + last) / 2) break;
    if (fate === 'odd sectors' && (sector - first) % 2 === 0) continue;
    const from = Math.max(position, sector * SECTOR_BYTES);
    const to = Math.min(end, (sector + 1) * SECTOR_BYTES);
    result.set(bytes.subarray(from - position, to - position), from);
  }
  return fate === 'first half' && last > first
    ? result.slice(0, Math.max(sizeBefore, (Math.floor((first + last) / 2) + 1) * SECTOR_BYTES))
    : result;
}
