/** What bench:learning has measured: a file that grows way by way, and the table of it. */
import Table from 'cli-table3';
import { z } from 'zod';
import { EXIT_USAGE, UserError } from '../node/errors.js';
import { replaceFile } from '../node/files.js';
import { parseJson, readFileIfThere } from '../node/json-file.js';

const BYTES_MAX = 1 << 26;

const count = z.number().int().nonnegative();

/** One way to learn, at one rate and from one seed. */
const resultSchema = z.object({
  /** "base", "dense", a codec, "central" or "alone". */
  way: z.string(),
  seed: count,
  /** These four are 0 for the base. */
  rank: count,
  steps: count,
  epochs: count,
  rate: z.number().nonnegative(),
  /** A peer publishes in every so many-th epoch, and an epoch counts `alpha` times. */
  cohorts: count.default(1),
  alpha: z.number().default(1),
  /** Least loss on the peers' held-out parts, by which epoch and rate are chosen; not reported. Null: not finite. */
  heldOut: z.number().nullable(),
  /** Epochs after which it was least. */
  bestEpoch: count,
  /** Nats a token on unseen text, by text; alone: of who has that text. Null: not finite. */
  losses: z.array(z.number().nullable()),
  /** Alone: the mean on texts that each has not; null else. */
  others: z.number().nullable(),
  /** Of an update on the wire; 0 where nothing is sent. */
  bytes: count,
  seconds: z.number(),
});

const settingSchema = z.object({
  /** Name and SHA-256 of each. */
  texts: z.array(z.object({ name: z.string(), sha256: z.string() })),
  model: z.string(),
  ...{ peers: count, batch: count, sequence: count },
  ...{ records: count, test: count, testTokens: count, looks: count },
});

const fileSchema = z.object({ setting: settingSchema, results: z.array(resultSchema) });

export type Result = z.infer<typeof resultSchema>;
export type Setting = z.infer<typeof settingSchema>;
/** Which result. */
export type Wanted = Pick<
  Result,
  'way' | 'seed' | 'rank' | 'steps' | 'epochs' | 'rate' | 'cohorts' | 'alpha'
>;

/** All results of one setting, on disk after each where there is a file. */
export class Results {
  readonly #setting: Setting;
  readonly #path: string | null;
  readonly #all: Result[];

  private constructor(setting: Setting, path: string | null, all: Result[]) {
    this.#setting = setting;
    this.#path = path;
    this.#all = all;
  }

  /** Throws UserError for a file that holds something else, or results of another setting. */
  static async open(setting: Setting, path: string | null): Promise<Results> {
    const bytes = path === null ? null : await readFileIfThere(path, BYTES_MAX, 'the results');
    if (path === null || bytes === null) return new Results(setting, path, []);
    const known = parseJson(bytes, path, fileSchema);
    for (const [name, value] of Object.entries(setting)) {
      const was = JSON.stringify(known.setting[name as keyof Setting]);
      if (was === JSON.stringify(value)) continue;
      throw new UserError(
        `--out ${path} has results of other ${name}, ${was}: name another file`,
        EXIT_USAGE,
      );
    }
    return new Results(setting, path, known.results);
  }

  get all(): readonly Result[] {
    return this.#all;
  }

  has(wanted: Wanted): boolean {
    return this.#all.some((one) => keyOf(one) === keyOf(wanted) && one.rate === wanted.rate);
  }

  async add(result: Result): Promise<void> {
    this.#all.push(result);
    if (this.#path !== null) await replaceFile(this.#path, [`${this.json()}\n`]);
  }

  json(): string {
    return JSON.stringify({ setting: this.#setting, results: this.#all }, null, 1);
  }

  /** Of each way its best rate, mean over seeds with the least and the most behind it. */
  table(): string {
    const names = this.#setting.texts.map(({ name }) => name);
    const chosen = bestRates(this.#all);
    const dense = chosen.find(({ way }) => way === 'dense');
    const table = new Table({
      head: ['way', 'rate', 'loss', 'behind dense', 'bytes', 'kB a run', ...names],
      style: { head: [], border: [], compact: true },
    });
    for (const key of new Set(chosen.map(rowKey))) {
      const ofSeeds = chosen.filter((one) => rowKey(one) === key);
      const behind = ofSeeds.flatMap((one) => {
        const ofSeed = chosen.find((other) => other.seed === one.seed && isSameRow(other, dense));
        return ofSeed === undefined ? [] : [meanLoss(one) - meanLoss(ofSeed)];
      });
      const { bytes, epochs, cohorts } = ofSeeds[0] ?? { bytes: 0, epochs: 0, cohorts: 1 };
      const byText = names.map((_, text) => mean(ofSeeds.map((one) => one.losses[text] ?? NaN)));
      table.push([
        key,
        [...new Set(ofSeeds.map(({ rate }) => rate || '-'))].join(', '),
        spread(ofSeeds.map(meanLoss)),
        spread(behind),
        ...(bytes === 0 ? ['-', '-'] : [bytes, Math.round((bytes * epochs) / cohorts / 1000)]),
        ...byText.map((loss) => loss.toFixed(4)),
      ]);
      const others = ofSeeds.flatMap((one) => one.others ?? []);
      if (others.length > 0) table.push([`${key}: other texts`, '', spread(others)]);
    }
    return table.toString();
  }
}

function keyOf({ way, seed, rank, steps, epochs, cohorts, alpha }: Omit<Wanted, 'rate'>): string {
  return `${way}/${seed}/${rank}/${steps}/${epochs}/${cohorts}/${alpha}`;
}

/** "rot1, r = 8, 30 x 10 steps", or "rot1, r = 8, 30 x 10 steps, 1 of 4, alpha 0.5". */
function rowKey({ way, rank, steps, epochs, cohorts, alpha }: Wanted | Result): string {
  const turn = cohorts === 1 && alpha === 1 ? '' : `, 1 of ${cohorts}, alpha ${alpha}`;
  return rank === 0 ? way : `${way}, r = ${rank}, ${epochs} x ${steps} steps${turn}`;
}

function isSameRow(one: Result, other: Result | undefined): boolean {
  return other !== undefined && rowKey(one) === rowKey(other);
}

/** Of each way and seed the rate with the least loss on held-out text; one that diverged is none. */
function bestRates(all: readonly Result[]): Result[] {
  const best = new Map<string, Result>();
  for (const one of all) {
    const known = best.get(keyOf(one))?.heldOut ?? Infinity;
    if (!best.has(keyOf(one)) || (one.heldOut ?? Infinity) < known) best.set(keyOf(one), one);
  }
  return [...best.values()];
}

function meanLoss({ losses }: Result): number {
  return mean(losses.map((loss) => loss ?? NaN));
}

function mean(numbers: readonly number[]): number {
  return numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
}

/** "3.7604" of one seed, "3.7604 (3.7599 to 3.7610)" of several, "-" of none. */
function spread(numbers: readonly number[]): string {
  if (numbers.length === 0) return '-';
  const middle = mean(numbers).toFixed(4);
  if (numbers.length === 1) return middle;
  return `${middle} (${Math.min(...numbers).toFixed(4)} to ${Math.max(...numbers).toFixed(4)})`;
}
