/**
 * The adapters that a run had, epoch by epoch, made again from what a peer keeps: the fold is a function of the log, so
 * the adapter after an epoch is the fold of the updates up to it. An update that came late counts where it belongs.
 */
import { adapterSha256, initialAdapter } from '../protocol/adapter.js';
import { EpochFold } from '../protocol/epoch-fold.js';
import { subtractSteps } from '../protocol/grid.js';
import { UserError } from './errors.js';
import type { StoredRun } from './stored-run.js';

/** The swarm's adapter as it was after one epoch. */
export interface PastAdapter {
  epoch: number;
  /** [adapterSize] float32. */
  theta: Float32Array;
  /** SHA-256 of theta, 64 hex digits. */
  sha256: string;
  /** Updates in it, those of earlier epochs included. */
  updates: number;
  /** Peer ids of the updates of this epoch, ascending; null where these are not on disk any more. */
  authors: string[] | null;
}

/** What an adapter is the fold of: `epoch` is that of the newest update, -1 without any. */
export interface AdapterContent {
  updates: number;
  epoch: number;
}

type History = Pick<StoredRun, 'run' | 'log' | 'dropped'>;

/**
 * From the oldest on, each epoch that has updates; first the last of those whose updates were dropped. Between two
 * of them the caller may do something else.
 */
export function* pastAdapters({ run, log, dropped }: History): Generator<PastAdapter> {
  const rows = new EpochFold(run);
  const initial = initialAdapter(run.manifest.adapter);
  const sum = dropped?.sum.slice() ?? new Float64Array(initial.length);
  let updates = dropped?.updates ?? 0;
  const adapter = (epoch: number, authors: string[] | null): PastAdapter => {
    const now = new Float32Array(initial.length);
    subtractSteps(initial, sum, now);
    return { epoch, theta: now, sha256: adapterSha256(now), updates, authors };
  };
  if (dropped !== null) yield adapter(dropped.epoch - 1, null);
  for (let epoch = dropped?.epoch ?? 0; epoch <= log.newestEpoch; epoch++) {
    const held = log.inEpoch(epoch);
    if (held.length === 0) continue;
    const steps = rows.add(sum, 1, epoch, held, log);
    while (steps.next().done !== true);
    updates += held.length;
    yield adapter(
      epoch,
      held.map(({ author }) => author),
    );
  }
}

/** How many adapters pastAdapters gives. */
export function countPast({ log, dropped }: Pick<History, 'log' | 'dropped'>): number {
  let count = dropped === null ? 0 : 1;
  for (let epoch = dropped?.epoch ?? 0; epoch <= log.newestEpoch; epoch++) {
    if (log.countIn(epoch) > 0) count += 1;
  }
  return count;
}

/** The adapter after `epoch`. Throws UserError for an epoch that has not come yet or is not kept. */
export function adapterOfEpoch(stored: History, epoch: number): PastAdapter {
  const last = stored.log.newestEpoch;
  let first: number | null = null;
  let found: PastAdapter | null = null;
  for (const adapter of pastAdapters(stored)) {
    first ??= adapter.epoch;
    if (adapter.epoch > epoch) break;
    found = adapter;
  }
  if (first === null) throw new UserError('the run has no updates yet, and so no past adapters');
  if (found !== null && epoch <= last) return found;
  const why =
    epoch > last
      ? 'it has not come yet'
      : (goneReason(stored) ?? 'the run has no updates up to then');
  throw new UserError(
    `there is no adapter of epoch ${epoch}: ${why}; give --epoch ${first} to ${last}`,
  );
}

/** Why the adapters of the first epochs cannot be made again; null where all can. */
export function goneReason({ dropped }: Pick<StoredRun, 'dropped'>): string | null {
  if (dropped === null || dropped.epoch <= 1) return null;
  return (
    `this peer does not keep the updates before epoch ${dropped.epoch}: the members have agreed on their sum, and ` +
    '--log-disk left no room for them, or this peer joined later'
  );
}

/** The newest adapter, [adapterSize] float32, or that after `epoch`, and its content. Throws as adapterOfEpoch does. */
export function adapterUpTo(
  stored: History & Pick<StoredRun, 'theta' | 'updates'>,
  epoch: number | null,
): AdapterContent & { theta: Float32Array } {
  if (epoch !== null) {
    const past = adapterOfEpoch(stored, epoch);
    return { theta: past.theta, updates: past.updates, epoch: past.epoch };
  }
  const { log, dropped, theta, updates } = stored;
  return { theta, updates, epoch: Math.max(log.newestEpoch, (dropped?.epoch ?? 0) - 1) };
}

/** E.g. "90 updates up to epoch 29". */
export function contentInWords({ updates, epoch }: AdapterContent): string {
  if (updates === 0) return 'no updates yet, so the adapter changes nothing';
  return `${updates} ${updates === 1 ? 'update' : 'updates'} up to epoch ${epoch}`;
}
