/** What `export --personal` does: tunes the swarm's adapter on this peer's own text, and says in words what came of it. */
import { initialAdapter } from '../../protocol/adapter.js';
import { UserError } from '../errors.js';
import type { StoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readPrivacyLedger } from '../store/privacy-file.js';
import type { PersonalAdapter } from '../train/personal.js';
import { createBar } from './slow.js';
import {
  openStoredTrainer,
  ownSteps,
  readStoredPeer,
  type TrainerVerbOptions,
} from './stored-trainer.js';
import type { VerbIo } from './verb.js';

export interface Personal extends PersonalAdapter {
  /** Of the untouched base, on the same text; null where it is not finite. */
  base: number | null;
  /** Whether this peer's updates are made with noise, which this adapter is not. */
  hasNoisyUpdates: boolean;
}

/**
 * From `swarm` ([adapterSize] float32), an adapter of the run in `options.dir`. Shows progress on stderr. Throws
 * UserError (no data or model any more, nothing held out to choose by), `io.signal.reason`.
 */
export async function makePersonal(
  stored: StoredRun,
  swarm: Float32Array,
  options: TrainerVerbOptions,
  io: VerbIo,
): Promise<Personal> {
  const peer = await readStoredPeer(options.dir, stored);
  const ledger = await readPrivacyLedger(new DataDirectory(options.dir));
  const trainer = await openStoredTrainer(stored, peer, options, io);
  const bars = {
    alone: createBar(io, 'training alone'),
    personal: createBar(io, 'tuning a personal adapter'),
  };
  try {
    const theta0 = initialAdapter(stored.run.manifest.adapter);
    const base = await trainer.evaluate(theta0, io.signal);
    const adapter = await trainer.tunePersonal(
      { theta: swarm, stepsByEpoch: ownSteps(stored, peer.peerId) },
      ({ stage, done, total }) => {
        if (stage === 'personal') bars.alone.stop();
        bars[stage].update(done, total);
      },
      io.signal,
    );
    if (adapter === null) {
      throw new UserError(
        `the peer in ${options.dir} has held nothing out by which a personal adapter could be chosen; start or ` +
          'join with it once more with a larger --held-out',
      );
    }
    const isFinite = base !== null && Number.isFinite(base);
    return { ...adapter, base: isFinite ? base : null, hasNoisyUpdates: ledger !== null };
  } finally {
    bars.alone.stop();
    bars.personal.stop();
    await trainer.close();
  }
}

/** Lines for people: how it was made, what it is worth, and that it is not for others. */
export function describePersonal(personal: Personal): string {
  const { base, losses, share, end, rounds, hasNoisyUpdates } = personal;
  const nats = (loss: number | null): string =>
    loss === null || !Number.isFinite(loss) ? '-' : loss.toFixed(3);
  const to = end === 'alone' ? 'one trained alone' : `one that went on for ${rounds} epochs`;
  const how =
    share === 0
      ? 'nothing made from own text is better than the swarm’s adapter: this is it'
      : `${100 * share} % of the way from the swarm’s adapter to ${to} on own text`;
  const noise = hasNoisyUpdates ? ', and without the noise that this peer’s updates have' : '';
  return (
    `personal: ${how}\n` +
    `held-out loss on own text, by which it was chosen: base ${nats(base)}, alone ${nats(losses.alone)}, ` +
    `swarm ${nats(losses.swarm)}, personal ${nats(losses.personal)}\n` +
    `It was trained on this peer’s own text alone${noise}: it may give that text away, so keep it to yourself.\n`
  );
}
