/** Attacks that lie in what is sent and when, not in what was learned. */
import { encodeUpdateMessage } from '../../protocol/gossip.js';
import { GOSSIP_BYTES_MAX } from '../../protocol/limits.js';
import { quantise } from '../../protocol/quantise.js';
import { RowFormats } from '../../protocol/row-format.js';
import { createUpdate, type Update } from '../../protocol/update.js';
import type { Accomplice, HonestRows } from './accomplice.js';

/** A second update for the current slot, told to every other honest member only. */
export async function equivocate(accomplice: Accomplice, epoch: number): Promise<void> {
  const { node, honest, spying } = accomplice;
  const mean = spying.honest(epoch)?.mean;
  if (mean === undefined) return;
  const turned = mean.map((value) => -value);
  const second = encodeUpdateMessage(forged(accomplice, epoch, turned));
  const some = new Set(honest.filter((_, i) => i % 2 === epoch % 2));
  if (second.length <= GOSSIP_BYTES_MAX) await node.transport?.publish(second, some);
}

/** Everything on this peer's disk once more, byte for byte. */
export async function replay({ node }: Accomplice): Promise<void> {
  for (const record of node.disk.log)
    if (record.length <= GOSSIP_BYTES_MAX) await node.transport?.publish(record);
}

/**
 * Silence, and then updates for all epochs gone by, made of what the honest peers learned in each. `at`: when they
 * come, as a share of the run; 1 is its last epoch.
 */
export function backDated(rowOf: (honest: HonestRows) => Float64Array, at: number) {
  return async (accomplice: Accomplice, epoch: number): Promise<void> => {
    const { node, run, spying } = accomplice;
    const { epochsMax } = run.manifest.schedule;
    if (epoch !== Math.min(epochsMax - 1, Math.floor(at * epochsMax))) return;
    const updates: Uint8Array[] = [];
    for (let past = 0; past <= epoch; past++) {
      const honest = spying.honest(past);
      if (honest === null) continue;
      updates.push(encodeUpdateMessage(forged(accomplice, past, rowOf(honest))));
    }
    // From its own disk they spread as a log that others lack, whatever their size.
    node.crash();
    node.disk.log.push(...updates);
    await node.start();
  };
}

/** A valid update of `epoch` with `values` in it, [adapterSize] float64. */
function forged({ node, run }: Accomplice, epoch: number, values: Float64Array): Update {
  const formats = new RowFormats(run);
  return createUpdate(run, node.identity, {
    epoch,
    baseEpoch: epoch,
    steps: run.manifest.schedule.stepsRef,
    logDigest: new Uint8Array(32),
    ...quantise(values, formats.at(epoch)),
  });
}
