/** Options of private training, what they must be together, and the budget that they open. */
import { flagOf, integer, option, orWord, real } from '../config.js';
import type { OptionValues } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import type { PrivacyReport } from '../interfaces.js';
import { FileStore } from '../store/file-store.js';
import type { DataDirectory } from '../store/directory.js';
import { readPrivacyLedger, writePrivacyLedger } from '../store/privacy-file.js';
import type { TrainerHost } from '../train/host.js';
import { PrivacySpending, type PrivacySettings } from '../train/privacy-budget.js';
import type { Run } from '../../protocol/manifest.js';

/** Records in a step: more than the largest --batch-size, for noise is divided by them. */
const BATCH_MAX = 65_536;

/** Private to a peer and no part of the run; docs/PRIVACY.md says what they buy. */
export const privacyOptions = {
  dpNoise: option(
    real('SIGMA', 0.1, 1000),
    null,
    'train with differential privacy: noise on the sum of the records’ gradients, as a multiple of --dp-clip',
    'off',
  ),
  dpEpsilon: option(
    real('X', 0.001, 1000),
    null,
    'with --dp-noise: training stops before any one record is worth more than this epsilon',
  ),
  dpDelta: option(real('X', 1e-12, 0.1), 1e-5, 'with --dp-noise: the delta of that epsilon'),
  dpClip: option(
    real('C', 1e-6, 1e6),
    1,
    'with --dp-noise: L2 norm to which the gradient of one record is cut',
  ),
  dpBatch: option(
    orWord('auto', integer('N', 1, BATCH_MAX)),
    'auto',
    'with --dp-noise: records in a step, on average; auto is --batch-size of the run',
  ),
} as const;

type PrivacyOptions = OptionValues<typeof privacyOptions>;

/**
 * What the flags ask for in a run whose steps have `batchSize` sequences; null without --dp-noise. `given`: names of the flags on the
 * command line. Throws UserError (wrong usage) for a flag that is missing, idle or at odds with another.
 */
export function privacyOf(
  { dpNoise: noise, dpEpsilon, dpDelta, dpClip, dpBatch }: PrivacyOptions,
  given: ReadonlySet<string>,
  batchSize: number,
): PrivacySettings | null {
  if (noise === null) {
    const idle = Object.keys(privacyOptions).find((name) => given.has(name));
    if (idle === undefined) return null;
    throw new UserError(
      `${flagOf(idle)} means nothing without --dp-noise SIGMA, which switches privacy on: give both, or neither`,
      EXIT_USAGE,
    );
  }
  if (dpEpsilon === null) {
    throw new UserError(
      '--dp-noise needs --dp-epsilon X, the budget at which this peer stops training: the smaller, the more private, ' +
        'and 8 is the most that is usually called private',
      EXIT_USAGE,
    );
  }
  return {
    noise,
    epsilon: dpEpsilon,
    delta: dpDelta,
    clip: dpClip,
    batchSize: dpBatch === 'auto' ? batchSize : dpBatch,
  };
}

/** Throws UserError (wrong usage) for a delta that protects nobody among so many records. */
export function checkDelta(
  settings: PrivacySettings | null,
  { examples }: Pick<TrainerHost['stats'], 'examples'>,
): void {
  if (settings === null || settings.delta * examples < 1) return;
  throw new UserError(
    `--dp-delta is ${settings.delta}, but with ${examples} records to train on it must be below 1/${examples}: ` +
      'at that delta, giving one of them away would count as private',
    EXIT_USAGE,
  );
}

/**
 * The budget of the peer in `directory`, with what it has spent so far; null without privacy. Throws UserError when
 * what is spent cannot be read, StoreUnavailableError.
 */
export async function openPrivacyBudget(
  directory: DataDirectory,
  { sampleRate }: Pick<TrainerHost, 'sampleRate'>,
  settings: PrivacySettings | null,
): Promise<PrivacySpending | null> {
  if (settings === null) return null;
  if (sampleRate === null) throw new TypeError('a budget was set for a trainer without noise');
  const taken = (await readPrivacyLedger(directory)) ?? [];
  const spending = new PrivacySpending({ ...settings, sampleRate }, taken, (now) =>
    writePrivacyLedger(directory, now),
  );
  // From here on a start without noise is refused.
  await writePrivacyLedger(directory, taken);
  return spending;
}

/**
 * Throws UserError (wrong usage) when the peer in `directory`, which takes part in `run` (null: in none yet), has trained
 * without noise and now would with it, or the other way round.
 */
export async function checkLedger(
  directory: DataDirectory,
  run: Run | null,
  settings: PrivacySettings | null,
): Promise<void> {
  const ledger = await readPrivacyLedger(directory);
  if (settings === null) {
    if (ledger === null) return;
    throw new UserError(
      `the peer in ${directory.path} trains with differential privacy, which a step without noise would end: give ` +
        '--dp-noise and --dp-epsilon again, or train without them in another --dir',
      EXIT_USAGE,
    );
  }
  if (ledger !== null || run === null) return;
  const { steps = 0 } = (await new FileStore(directory, run.id).loadState()) ?? {};
  if (steps === 0) return;
  throw new UserError(
    `the peer in ${directory.path} has taken ${steps} steps without noise, and what those revealed no noise takes ` +
      'back: leave --dp-noise out, or give another --dir',
    EXIT_USAGE,
  );
}

/** What was set, and how far the budget goes, in one line. */
export function privacyLine(
  { epsilon, epsilonMax, delta, noise, clip, sampleRate, stepsLeft }: PrivacyReport,
  { examples }: Pick<TrainerHost['stats'], 'examples'>,
  { schedule: { stepsRef, epochsMax } }: Run['manifest'],
): string {
  const spent = epsilon === 0 ? '' : `, of which ${epsilon.toFixed(3)} is spent`;
  const epochs = Math.floor(stepsLeft / stepsRef);
  const reach =
    epochs < epochsMax
      ? `${epochs} of the run’s ${epochsMax} epochs`
      : `more than the run’s ${epochsMax} epochs`;
  return (
    `noise ${noise} x clip ${clip}, each of ${examples} records in a step with probability ` +
    `${sampleRate.toPrecision(3)}; epsilon ${epsilonMax} at delta ${delta}${spent} lasts ${stepsLeft} steps, ${reach}`
  );
}
