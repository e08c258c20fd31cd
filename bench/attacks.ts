/**
 * What hostile peers do to a run, with the mean, the filtered and the robust fold: the table of docs/THREATS.md.
 * Ten peers train the embedded base on the three offices' lines, shuffled and dealt; two of them are hostile.
 *   npm run bench:attacks -- --seeds 1,2 --attacks none,sign-flip --out cells.jsonl
 * --attackers 0.3,0.5 gives the shares of hostile peers, a table each; with --open they are the false identities of
 * one person in an open run, which has no robust fold.
 * With --out each finished cell is a line of that file, and those that are there already are not run again.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runSimulation, simulateVerb, type SimulateOptions } from '../node/cli/simulate.js';
import { defaultsOf } from '../node/config.js';
import { ATTACK_NAMES, type AttackName } from '../node/sim/attacks.js';
import { TRIM_FRACTION_MAX } from '../protocol/manifest-rules.js';

const { values } = parseArgs({
  options: {
    attacks: { type: 'string', default: ['none', ...ATTACK_NAMES].join(',') },
    seeds: { type: 'string', default: '1' },
    /** lines or files: see murmurate simulate --help. */
    deal: { type: 'string', default: 'lines' },
    /** The synthetic problem instead of the language model, each peer with a target of its own. */
    synthetic: { type: 'boolean', default: false },
    folds: { type: 'string' },
    attackers: { type: 'string', default: '0.2' },
    open: { type: 'boolean', default: false },
    epochs: { type: 'string', default: '6' },
    steps: { type: 'string', default: '4' },
    out: { type: 'string' },
  },
});

interface Cell {
  synthetic: boolean;
  /** Share of the peers; absent in cells of an earlier program, which measured 0.2 in closed runs. */
  attackers?: number;
  open?: boolean;
  attack: string;
  fold: (typeof ALL_FOLDS)[number];
  seed: number;
  deal: string;
  epochs: number;
  steps: number;
  lossBefore: number | null;
  lossAfter: number | null;
  losses: (number | null)[];
  adapters: number;
  evicted: number;
  backdoorSuccess: number | null;
  seconds: number;
}

const ALL_FOLDS = ['mean', 'filtered', 'robust'] as const;
const OFFICES = ['clinic', 'machine-shop', 'law-office'];
const DATA = new URL('../../examples/three-offices/data/', import.meta.url);
const never = new AbortController().signal;
const io = { stderr: process.stderr, terminal: process.stderr.isTTY, signal: never };

const done: Cell[] =
  values.out !== undefined && existsSync(values.out)
    ? readFileSync(values.out, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as Cell)
    : [];

type Wanted = Pick<Cell, 'attack' | 'fold' | 'seed'> & { attackers: number };

async function measure({ attack, fold, seed, attackers }: Wanted): Promise<Cell> {
  const defaults = defaultsOf(simulateVerb.options) as SimulateOptions;
  const startMs = performance.now();
  const { deal } = values;
  const [epochs, steps] = [Number(values.epochs), Number(values.steps)];
  const result = await runSimulation(
    {
      ...defaults,
      data: OFFICES.map((office) => fileURLToPath(new URL(`${office}.jsonl`, DATA))),
      attack: ATTACK_NAMES.find((name): name is AttackName => name === attack) ?? null,
      deal: deal === 'files' ? 'files' : 'lines',
      ...{ attackers, open: values.open },
      // The robust fold bears as many as there are, up to its own bound.
      ...(fold === 'robust' && { trim: Math.min(TRIM_FRACTION_MAX, attackers) }),
      ...{ fold, seed, epochs, steps, rank: 4, sequenceLength: 64, batchSize: 1 },
      ...{ learningRate: 0.01, threads: 1, blind: true, synthetic: values.synthetic },
    },
    io,
  );
  const { lossBefore, lossAfter, losses, hashes, evicted, backdoorSuccess } = result;
  return {
    ...{ attack, fold, seed, deal, epochs, steps, lossBefore, lossAfter, losses, evicted },
    ...{ synthetic: values.synthetic, open: values.open, attackers, backdoorSuccess },
    adapters: Object.keys(hashes).length,
    seconds: (performance.now() - startMs) / 1000,
  };
}

/** Mean over the seeds with the range behind it. */
function summary(cells: readonly Cell[], valueOf: (cell: Cell) => number | null): string {
  const numbers = cells.flatMap((cell) => valueOf(cell) ?? []);
  if (numbers.length === 0) return '-';
  const text = (value: number): string => value.toFixed(values.synthetic ? 4 : 2);
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const range = `${text(Math.min(...numbers))} to ${text(Math.max(...numbers))}`;
  return numbers.length === 1 ? text(mean) : `${text(mean)} (${range})`;
}

const folds = values.folds ?? (values.open ? 'mean' : ALL_FOLDS.join(','));
const FOLDS = ALL_FOLDS.filter((fold) => folds.split(',').includes(fold));
const cells: Cell[] = [];
const shares = values.attackers.split(',').map(Number);
const attacks = values.attacks
  .split(',')
  .filter((attack) => !values.synthetic || !['label-flip', 'backdoor'].includes(attack));

/** A finished cell of these settings; a file of an earlier program has those of one share alone. */
function known({ attack, fold, seed, attackers }: Wanted): Cell | undefined {
  const wanted = { attack, fold, seed, synthetic: values.synthetic, deal: values.deal };
  const size = { epochs: Number(values.epochs), steps: Number(values.steps) };
  return done.find((cell) => {
    const isSame = Object.entries({ ...wanted, ...size }).every(
      ([field, value]) => cell[field as keyof Cell] === value,
    );
    return isSame && (cell.attackers ?? 0.2) === attackers && (cell.open ?? false) === values.open;
  });
}

for (const attackers of shares) {
  for (const seed of values.seeds.split(',').map(Number)) {
    for (const attack of attacks) {
      for (const fold of FOLDS) {
        const wanted = { attack, fold, seed, attackers };
        const finished = known(wanted);
        const cell = finished ?? (await measure(wanted));
        cells.push(cell);
        if (finished !== undefined) continue;
        if (values.out !== undefined) appendFileSync(values.out, `${JSON.stringify(cell)}\n`);
        console.error(`${attack}, ${fold}, seed ${seed}: ${String(cell.lossAfter)}`);
      }
    }
  }
}
for (const attackers of shares) {
  if (shares.length > 1) console.log(`\n${attackers * 100} % hostile\n`);
  console.log(`| attack | ${FOLDS.join(' | ')} | trigger obeyed |`);
  console.log(`|---|${FOLDS.map(() => '---|').join('')}---|`);
  for (const attack of attacks) {
    const of = (fold: string): Cell[] =>
      cells.filter(
        (cell) =>
          cell.attack === attack && cell.fold === fold && (cell.attackers ?? 0.2) === attackers,
      );
    const all = FOLDS.map(of);
    const losses = all.map((some) => summary(some, ({ lossAfter }) => lossAfter));
    const triggered = all.map((some) => summary(some, (cell) => cell.backdoorSuccess));
    console.log(`| ${attack} | ${losses.join(' | ')} | ${triggered.join(', ')} |`);
  }
}
process.exit(0);
