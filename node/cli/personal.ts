/** murmurate personal: trains the experts that --personal mixes with the swarm's adapter, and keeps them in --dir. */
import { adapterLayout, adapterSha256, initialAdapter } from '../../protocol/adapter.js';
import { UserError } from '../errors.js';
import { adapterUpTo } from '../past-adapters.js';
import { readStoredRun, type StoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { writeExperts, type PersonalFacts, type StoredExperts } from '../store/personal-file.js';
import { readPrivacyLedger } from '../store/privacy-file.js';
import { directoryOption, epochOption, jsonOption } from './peer-options.js';
import { createBar } from './slow.js';
import {
  openStoredTrainer,
  ownSteps,
  readStoredPeer,
  trainerOptions,
  type TrainerVerbOptions,
} from './stored-trainer.js';
import { defineVerb, type VerbIo } from './verb.js';

export const personalVerb = defineVerb({
  name: 'personal',
  summary:
    'Train two adapters on this peer’s own text alone, which --personal mixes with the swarm’s; the peer may run or not.',
  args: [],
  options: {
    ...directoryOption,
    ...epochOption,
    ...trainerOptions,
    ...jsonOption,
  },
  example: `
$ murmurate personal
kept in murmurate-peer/personal.bin; --personal of generate, chat, serve and eval mixes them with the swarm's
held-out loss on own text: base 3.782, swarm 1.957, continued 1.671, alone 1.931, mixture 1.850`,
  run: async ({ options, io }) => {
    const stored = await readStoredRun(options.dir);
    const { theta: swarm, ...content } = adapterUpTo(stored, options.epoch);
    if (content.updates === 0) {
      throw new UserError(
        `no member of the run in ${options.dir} has trained yet, so there is nothing to go on from: start or join, and let it train first`,
      );
    }
    const made = await trainExperts(stored, swarm, options, io);
    const experts = { ...made, facts: { ...made.facts, ...content } };
    const directory = new DataDirectory(options.dir);
    const { id: runId, manifest } = stored.run;
    const { size: adapterSize } = adapterLayout(manifest.adapter);
    await writeExperts(directory, { runId, adapterSize }, experts);
    const file = directory.pathOf('personal');
    io.stdout.write(
      options.json
        ? `${JSON.stringify({ file, runId, ...experts.facts })}\n`
        : `kept in ${file}; --personal of generate, chat, serve and eval mixes them with the swarm’s\n` +
            describeExperts(experts.facts),
    );
  },
});

/**
 * From `swarm` ([adapterSize] float32), an adapter of the run in `options.dir`. Shows progress on stderr. Throws
 * UserError (no data or model any more, nothing held out to stop by), `io.signal.reason`.
 */
async function trainExperts(
  stored: StoredRun,
  swarm: Float32Array,
  options: TrainerVerbOptions,
  io: VerbIo,
): Promise<Omit<StoredExperts, 'facts'> & { facts: Omit<PersonalFacts, 'epoch' | 'updates'> }> {
  const peer = await readStoredPeer(options.dir, stored);
  const ledger = await readPrivacyLedger(new DataDirectory(options.dir));
  const trainer = await openStoredTrainer(stored, peer, options, io);
  const bars = {
    alone: createBar(io, 'training alone'),
    personal: createBar(io, 'going on from the swarm’s adapter'),
  };
  try {
    const base = await trainer.evaluate(initialAdapter(stored.run.manifest.adapter), io.signal);
    const made = await trainer.tunePersonal(
      { theta: swarm, stepsByEpoch: ownSteps(stored, peer.peerId) },
      ({ stage, done, total }) => {
        if (stage === 'personal') bars.alone.stop();
        bars[stage].update(done, total);
      },
      io.signal,
    );
    if (made === null) {
      throw new UserError(
        `the peer in ${options.dir} has held nothing out by which it could be told when to stop; start or ` +
          'join with it once more with a larger --held-out',
      );
    }
    const { continued, alone, single, losses, ...where } = made;
    const heldOutLoss = {
      ...{ base: finite(base), swarm: finite(losses.swarm) },
      ...{ continued: finite(losses.continued), alone: finite(losses.alone) },
      ...{ single: finite(losses.single), mixture: finite(losses.mixture) },
    };
    const swarmSha256 = adapterSha256(swarm);
    const facts = { ...where, swarmSha256, heldOutLoss, hasNoisyUpdates: ledger !== null };
    return { facts, continued, alone, single };
  } finally {
    bars.alone.stop();
    bars.personal.stop();
    await trainer.close();
  }
}

function finite(loss: number | null): number | null {
  return loss !== null && Number.isFinite(loss) ? loss : null;
}

/** Nats in words. */
export function nats(loss: number | null): string {
  return loss === null ? '-' : loss.toFixed(3);
}

/** Lines for people: what the experts are worth, and that they are not for others. */
function describeExperts({ heldOutLoss, hasNoisyUpdates }: PersonalFacts): string {
  const { base, swarm, continued, alone, mixture } = heldOutLoss;
  return (
    `held-out loss on own text: base ${nats(base)}, swarm ${nats(swarm)}, continued ${nats(continued)}, ` +
    `alone ${nats(alone)}, mixture ${nats(mixture)}\n${privacySentence('They were', hasNoisyUpdates)}`
  );
}

/** `subject`: "It was" or "They were". */
export function privacySentence(subject: 'It was' | 'They were', hasNoisyUpdates: boolean): string {
  const noise = hasNoisyUpdates ? ', and without the noise that this peer’s updates have' : '';
  const [it, them] = subject === 'It was' ? ['it', 'it'] : ['they', 'them'];
  return `${subject} trained on this peer’s own text alone${noise}: ${it} may give that text away, so keep ${them} to yourself.\n`;
}
