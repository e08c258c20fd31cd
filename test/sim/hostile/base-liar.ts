/** A member that states, for what the others have compacted, an adapter of its own invention. */
import type { FrameStream } from '../../../node/interfaces.js';
import type { SimTransport } from '../../../node/sim/network.js';
import {
  checkpointEpochAt,
  checkpointSpacing,
  describeTheta,
} from '../../../protocol/checkpoint.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Manifest } from '../../../protocol/manifest.js';
import { SyncSession } from '../../../protocol/sync.js';
import { adapterSize } from '../../support/runs.js';
import type { Swarm } from '../swarm.js';

/** Epochs that a run with compaction keeps whole. */
export const RETAINED_EPOCHS = 12;

/** A manifest by which logs are compacted. */
export function compacting(manifest: Manifest, epochsMax: number): Manifest {
  return {
    ...manifest,
    schedule: { ...manifest.schedule, epochsMax },
    fold: { ...manifest.fold, horizonEpochs: RETAINED_EPOCHS },
  };
}

/** Epochs at whose very beginning logs are compacted, up to `end`. */
export function compactionEpochs({ run }: Swarm, end: number): number[] {
  const spacing = checkpointSpacing(run.manifest.fold);
  const first = RETAINED_EPOCHS + spacing;
  return Array.from({ length: Math.ceil((end - first) / spacing) }, (_, i) => first + i * spacing);
}

/** What the liar wants everybody's adapter to be. */
export const FORGED_VALUE = 7;

export class BaseLiar {
  readonly #swarm: Swarm;
  readonly #transport: SimTransport;

  constructor(swarm: Swarm, peerId: string) {
    this.#swarm = swarm;
    this.#transport = swarm.network.transport(peerId);
  }

  async start(): Promise<void> {
    await this.#transport.start({
      onGossip: () => 'ignore',
      onStream: async (kind, stream) => {
        if (kind === 'sync') await this.#talk(stream);
        else stream.abort(new Error('no blobs here'));
      },
      onConnect: () => undefined,
      onDisconnect: () => undefined,
      isMember: () => true,
    });
  }

  /** Speaks to everybody at once, before they have said anything to each other. */
  speakFirst(): void {
    for (const { peerId } of this.#swarm.nodes) {
      const { signal } = new AbortController();
      void this.#transport.open('sync', peerId, signal).then(
        (stream) => this.#talk(stream).catch(() => undefined),
        () => undefined,
      );
    }
  }

  async #talk(stream: FrameStream): Promise<void> {
    const { run, time } = this.#swarm;
    const { startMs, epochMs, epochsMax } = run.manifest.schedule;
    const now = Math.floor((time.nowMs - startMs) / epochMs);
    const epoch = checkpointEpochAt(run.manifest.fold, now, epochsMax);
    const theta = new Float64Array(adapterSize(run)).fill(FORGED_VALUE);
    const lie = { epoch, digest: '66'.repeat(32), contributions: 1000 * epoch, ancestors: [] };
    const log = new UpdateLog();
    log.setFloor(epoch);
    const session = new SyncSession(run, log, new Set(), { ...lie, ...describeTheta(theta) });
    await stream.send(session.hello(time.nowMs));
    for await (const frame of stream.frames) {
      const { kind } = session.receive(frame);
      if (kind === 'differs') for (const part of session.vectors()) await stream.send(part);
      const answer = kind === 'have' ? session.want(-1) : kind === 'want' ? session.reply() : [];
      for (const part of answer) await stream.send(part);
      if (kind === 'want') await stream.close();
    }
  }
}
