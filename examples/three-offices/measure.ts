/** What each peer's adapter is worth: losses on every office's held-out lines, and answers to read. */
import { join } from 'node:path';
import { z } from 'zod';

import { compareCommand, exportCommand, generateCommand } from './commands.js';
import { questionsOf } from './held-out.js';
import { OFFICES } from './offices.js';
import { DemoError } from './processes.js';
import type { PeerResult } from './report.js';
import { QUESTIONS_PER_OFFICE } from './settings.js';
import type { PeerStatus } from './status.js';
import type { Peer, Swarm } from './swarm.js';
import type { Answer } from './table.js';
import type { Watch } from './watch.js';

const lossesSchema = z.object({
  base: z.number(),
  alone: z.number(),
  swarm: z.number(),
  personal: z.number(),
});

/** What `compare --json` prints. */
const comparisonSchema = z.object({ heldOutLoss: z.record(z.string(), lossesSchema) });

/** Exports each peer's adapter and measures it, all peers at once. `statuses` as of the end. */
export async function measurePeers(
  swarm: Swarm,
  statuses: readonly PeerStatus[],
  watch: Watch,
): Promise<PeerResult[]> {
  watch.awaiting('the comparison with training alone');
  const domains = swarm.peers.map(({ office, dataFile }) => ({ office, dataFile }));
  return Promise.all(
    swarm.peers.map(async (peer, i) => {
      const status = statuses[i];
      if (status === undefined) throw new DemoError(`the ${peer.office} gave no status`);
      const adapterDir = adapterDirectory(peer);
      await swarm
        .run(`${peer.office}-export`, exportCommand(peer.dir, adapterDir))
        .result(watch.signal);
      const printed = await swarm
        .run(`${peer.office}-compare`, compareCommand(peer.dir, domains))
        .result(watch.signal);
      return {
        peerId: status.peerId,
        adapterSha256: status.adapter.sha256,
        heldOutLoss: parseComparison(printed, peer.office),
        bytesSent: status.traffic.bytesOut.total,
        bytesReceived: status.traffic.bytesIn.total,
        adapterDir,
      };
    }),
  );
}

/** Throws DemoError when a loss is missing: a domain without held-out lines has none. */
function parseComparison(printed: string, office: string): PeerResult['heldOutLoss'] {
  try {
    return comparisonSchema.parse(JSON.parse(printed)).heldOutLoss;
  } catch (cause) {
    throw new DemoError(`the comparison of the ${office} is not complete: ${printed}`, { cause });
  }
}

/**
 * Asks held-out questions of each office, first of the base model, then of the adapter that a peer of
 * another office exported. Two processes at a time.
 */
export async function askQuestions(swarm: Swarm, watch: Watch): Promise<Answer[]> {
  watch.awaiting('the answers to held-out questions');
  const answers: Answer[] = [];
  for (const [i, office] of OFFICES.entries()) {
    const answerer = swarm.peers[(i + 1) % swarm.peers.length];
    if (answerer === undefined) throw new DemoError('no peer is left to ask');
    for (const { prompt, completion } of questionsOf(office, QUESTIONS_PER_OFFICE)) {
      const number = answers.length + 1;
      const ask = async (name: string, adapterDir: string | null): Promise<string> =>
        swarm
          .run(`question-${number}-${name}`, generateCommand(prompt, adapterDir))
          .result(watch.signal);
      const [before, after] = await Promise.all([
        ask('before', null),
        ask('after', adapterDirectory(answerer)),
      ]);
      answers.push({
        office: office.name,
        prompt,
        expected: completion,
        before,
        answerer: answerer.office,
        after,
      });
    }
  }
  return answers;
}

/** Where a peer's adapter is exported to. */
function adapterDirectory(peer: Peer): string {
  return join(peer.dir, 'adapter');
}
