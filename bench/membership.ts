/**
 * Who was in the data? One peer trains the embedded base on half of many invented notes, as a peer does: epochs on
 * the real engine, its updates compressed by the real codec. Then somebody with what every member of the run has, the
 * base, each update and the fold that it started from, tells notes that were trained on from notes that were not:
 * - by the loss that the final adapter takes off the base's (Yeom et al., 1709.01604, calibrated by the base);
 * - by the cosine between an update and what the note's own gradient, where the update started, has beyond the mean of
 *   all notes' gradients: of the first one, of the one that tells most, and summed over all.
 *   npm run bench:membership -- --epochs 8 --noise off,0.8,2
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { epsilonOf } from '../node/train/accountant.js';
import { Prng } from '../protocol/prng.js';
import { cosine, ratesOf, type Rates } from './membership/attack.js';
import { Candidates, makeRun, trainVictim, type VictimSettings } from './membership/victim.js';

const { values } = parseArgs({
  options: {
    /** Notes that are trained on, and as many that are not. */
    notes: { type: 'string', default: '100' },
    epochs: { type: 'string', default: '8' },
    steps: { type: 'string', default: '10' },
    /** Notes in a step. */
    batch: { type: 'string', default: '20' },
    rate: { type: 'string', default: '0.01' },
    rank: { type: 'string', default: '8' },
    clip: { type: 'string', default: '1' },
    delta: { type: 'string', default: '1e-3' },
    /** Noise multipliers; "off" is training without privacy. */
    noise: { type: 'string', default: 'off,0.8,1.5,3' },
    threads: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
  },
});

const [notes, epochs, steps, batch] = [values.notes, values.epochs, values.steps, values.batch].map(
  Number,
) as [number, number, number, number];
const seed = new Uint8Array(32).fill(Number(values.seed));
/** Half of the notes, drawn: their numbers must not tell them from the others. */
const isMember = new Array<boolean>(2 * notes).fill(false);
for (const i of new Prng(seed, 'members').permutation(2 * notes).subarray(0, notes)) {
  isMember[i] = true;
}

/** One line of JSONL a note: a locker and its code, of which no two are alike. */
function makeNotes(): string[] {
  const random = new Prng(seed, 'notes');
  const digits = (): string => Array.from({ length: 6 }, () => random.nextBelow(10)).join('');
  return isMember.map((_, i) =>
    JSON.stringify({
      prompt: `Q: What opens locker ${1000 + i}?\nA:`,
      completion: ` The code ${digits()}.`,
    }),
  );
}

interface Outcome {
  /** Mean losses of notes trained on and of the others, nats a trained token. */
  losses: [members: number, others: number];
  attacks: { loss: Rates; first: Rates; best: Rates; all: Rates };
}

function meanWhere(numbers: readonly number[], member: boolean): number {
  const own = numbers.filter((_, i) => isMember[i] === member);
  return own.reduce((sum, one) => sum + one, 0) / own.length;
}

async function attack(folds: readonly Float32Array[], candidates: Candidates): Promise<Outcome> {
  const [base, final] = [isMember.map(() => 0), isMember.map(() => 0)];
  const all = isMember.map(() => 0);
  const single: Rates[] = [];
  for (const [epoch, theta] of folds.entries()) {
    const after = folds[epoch + 1];
    const gradients: Float32Array[] = [];
    await candidates.forEach(theta, (i, loss, gradient) => {
      if (epoch === 0) base[i] = loss;
      if (after === undefined) final[i] = loss;
      else gradients[i] = gradient.slice();
    });
    if (after === undefined) break;
    centre(gradients);
    const update = theta.map((value, i) => value - (after[i] ?? 0));
    const scores = gradients.map((gradient) => cosine(update, gradient));
    single.push(ratesOf(scores, isMember));
    for (const [i, score] of scores.entries()) all[i] = (all[i] ?? 0) + score;
  }
  const gains = base.map((loss, i) => loss - (final[i] ?? NaN));
  const [first] = single;
  if (first === undefined) throw new RangeError('--epochs must be at least 1');
  const best = single.reduce((one, other) => (other.auc > one.auc ? other : one));
  return {
    losses: [meanWhere(final, true), meanWhere(final, false)],
    attacks: { loss: ratesOf(gains, isMember), first, best, all: ratesOf(all, isMember) },
  };
}

/** Takes their mean from all `vectors`, in place: what all notes have in common tells nothing of one. */
function centre(vectors: readonly Float32Array[]): void {
  const size = vectors[0]?.length ?? 0;
  for (let i = 0; i < size; i++) {
    const mean = vectors.reduce((sum, vector) => sum + (vector[i] ?? 0), 0) / vectors.length;
    for (const vector of vectors) vector[i] = (vector[i] ?? 0) - mean;
  }
}

function text({ auc, found }: Rates): string {
  return `${auc.toFixed(2)}, ${(100 * found).toFixed(1)} %`;
}

const dir = await mkdtemp(join(tmpdir(), 'murmurate-membership-'));
try {
  const lines = makeNotes();
  const [ownFile, allFile] = [join(dir, 'own.jsonl'), join(dir, 'all.jsonl')];
  await writeFile(ownFile, lines.filter((_, i) => isMember[i]).join('\n'));
  await writeFile(allFile, lines.join('\n'));
  const delta = Number(values.delta);
  const table = new Table({
    head: ['noise', 'epsilon', 'loss: own, others', 'final loss', 'first', 'best', 'all updates'],
    style: { head: [], border: [], compact: true },
  });
  for (const noise of values.noise.split(',')) {
    const sampleRate = Math.min(1, batch / notes);
    const privacy =
      noise === 'off'
        ? null
        : { noise: Number(noise), clip: Number(values.clip), batchSize: batch, sampleRate };
    const settings: VictimSettings = {
      ...{ epochs, steps, notesPerStep: batch, learningRate: Number(values.rate) },
      ...{ rank: Number(values.rank), threads: Number(values.threads), seed, privacy },
    };
    const run = await makeRun(settings);
    const folds = await trainVictim(run, settings, ownFile);
    const candidates = await Candidates.open(run, allFile, settings.threads);
    const { losses, attacks } = await attack(folds, candidates);
    const taken = privacy === null ? null : [{ ...privacy, steps: epochs * steps }];
    const epsilon = taken === null ? '-' : epsilonOf(taken, delta).toFixed(2);
    const own = losses.map((loss) => loss.toFixed(3)).join(', ');
    const { loss, first, best, all } = attacks;
    table.push([noise, epsilon, own, ...[loss, first, best, all].map(text)]);
    process.stderr.write(`noise ${noise} done\n`);
  }
  process.stdout.write(
    `${JSON.stringify(values)}\n${table.toString()}\nper attack: AUC, and members found when 1 % of the others are taken for members\n`,
  );
} finally {
  await rm(dir, { recursive: true });
}
process.exit(0);
