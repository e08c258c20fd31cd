/**
 * What becomes of trained steps: error feedback, and in the peer's own slots the codec and the signed update
 * (docs/PROTOCOL.md, "One epoch at one peer").
 */
import { encodeUpdateMessage } from '../../protocol/gossip.js';
import { STEPS_MAX } from '../../protocol/limits.js';
import { accumulate, addUpdate, takeUpdate } from '../../protocol/residual.js';
import { createUpdate, type Update, type UpdateHeader } from '../../protocol/update.js';
import type { Identity, PeerState, TrainResult } from '../interfaces.js';
import type { Replica } from './replica.js';

/**
 * The most by which the delta of an epoch with fewer steps than stepsRef is scaled up. Full scaling is
 * right for plain gradient steps, but the first steps of AdamW are all of full length and mostly noise:
 * three offices with 1 to 3 of 10 steps diverge with it and learn with this (docs/PROTOCOL.md, "Slow peers").
 */
const STEP_SCALE_MAX = 2;

/** One epoch's work. */
export interface TrainedEpoch {
  /** The adapter before and after the steps: [adapterSize] float32, all finite. */
  theta: Float32Array;
  result: TrainResult;
  baseEpoch: number;
  /** The slot in which they ended. */
  epoch: number;
  /** The slot of this peer for which they make an update; null in between, when they wait in the residual. */
  slot: number | null;
  /** Own updates that a certificate does not count: they go back into the residual. See Sealing. */
  returned: { seal: string; updates: readonly UpdateHeader[] } | null;
}

/**
 * The update of an epoch (null without a slot), and the state after it, which must be on disk before anybody hears of
 * it. The residual of `state` is changed in place: it is as large as the adapter, and what is on disk stays until the new
 * one is there.
 */
export function compressEpoch(
  { replica, identity }: { replica: Replica; identity: Identity },
  state: PeerState,
  { theta, result, baseEpoch, epoch, slot, returned }: TrainedEpoch,
): { state: PeerState; update: Update | null } {
  const { run, formats, log } = replica;
  const { schedule, fold } = run.manifest;
  const scale = Math.min(schedule.stepsRef / result.steps, STEP_SCALE_MAX);
  const { residual } = state;
  let { waitingSteps } = state;
  // After a long absence the residual corrects a path that the swarm has left.
  if (epoch - state.epoch > fold.lagMax) {
    residual.fill(0);
    waitingSteps = 0;
  }
  accumulate(residual, { from: theta, to: result.theta, scale });
  for (const header of returned?.updates ?? [])
    addUpdate(residual, formats.at(header.epoch), log.read(header));
  const steps = Math.min(STEPS_MAX, waitingSteps + result.steps);
  const next: PeerState = {
    ...state,
    // Never back, also when the clock was: a restart that lost the log must not use a slot again.
    epoch: Math.max(epoch, state.epoch),
    residual,
    settledSeal: returned?.seal ?? state.settledSeal,
    waitingSteps: steps,
    steps: state.steps + result.steps,
    tokens: state.tokens + result.tokens,
  };
  if (slot === null) return { state: next, update: null };
  const quantised = takeUpdate(residual, formats.at(slot));
  const fields = { epoch: slot, baseEpoch, steps, logDigest: log.digest(), ...quantised };
  const update = createUpdate(run, identity, fields);
  return { state: { ...next, update: encodeUpdateMessage(update), waitingSteps: 0 }, update };
}
