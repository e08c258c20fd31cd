/**
 * What hostile peers do to a run, with the mean and with the robust fold: the table of docs/THREATS.md.
 * Ten peers train the embedded base on the three offices' lines, shuffled and dealt; two of them are hostile.
 *   npm run bench:attacks -- --seeds 1,2 --attacks none,sign-flip --out cells.jsonl
 * With --out each finished cell is a line of that file, and those that are there already are not run again.
 */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runSimulation, simulateVerb, type SimulateOptions } from '../node/cli/simulate.js';
import { defaultsOf } from '../node/config.js';
import { ATTACK_NAMES, type AttackName } from '../node/sim/attacks.js';

const { values } = parseArgs({
  options: {
    attacks: { type: 'string', default: ['none', ...ATTACK_NAMES].join(',') },
    seeds: { type: 'string', default: '1' },
    /** lines or files: see murmurate simulate --help. */
    deal: { type: 'string', default: 'lines' },
    /** The synthetic problem instead of the language model, each peer with a target of its own. */
    synthetic: { type: 'boolean', default: false },
    folds: { type: 'string', default: 'mean,robust' },
    epochs: { type: 'string', default: '6' },
    steps: { type: 'string', default: '4' },
    out: { type: 'string' },
  },
});

interface Cell {
  synthetic: boolean;
  attack: string;
  fold: 'mean' | 'robust';
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

async function measure(attack: string, fold: Cell['fold'], seed: number): Promise<Cell> {
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
      ...{ fold, seed, epochs, steps, rank: 4, sequenceLength: 64, batchSize: 1 },
      ...{ learningRate: 0.01, threads: 1, blind: true, synthetic: values.synthetic },
    },
    io,
  );
  const { lossBefore, lossAfter, losses, hashes, evicted, backdoorSuccess } = result;
  return {
    ...{ attack, fold, seed, deal, epochs, steps, lossBefore, lossAfter, losses, evicted },
    ...{ synthetic: values.synthetic, backdoorSuccess },
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

const FOLDS = (['mean', 'robust'] as const).filter((fold) =>
  values.folds.split(',').includes(fold),
);
const cells: Cell[] = [];
const attacks = values.attacks
  .split(',')
  .filter((attack) => !values.synthetic || !['label-flip', 'backdoor'].includes(attack));
for (const seed of values.seeds.split(',').map(Number)) {
  for (const attack of attacks) {
    for (const fold of FOLDS) {
      const wanted = `${values.synthetic} ${attack} ${fold} ${seed} ${values.deal} ${values.epochs} ${values.steps}`;
      const known = done.find(
        (cell) =>
          `${cell.synthetic} ${cell.attack} ${cell.fold} ${cell.seed} ${cell.deal} ${cell.epochs} ${cell.steps}` ===
          wanted,
      );
      const cell = known ?? (await measure(attack, fold, seed));
      cells.push(cell);
      if (known !== undefined) continue;
      if (values.out !== undefined) appendFileSync(values.out, `${JSON.stringify(cell)}\n`);
      console.error(`${attack}, ${fold}, seed ${seed}: ${String(cell.lossAfter)}`);
    }
  }
}
console.log('| attack | mean fold | robust fold | trigger obeyed, mean and robust |');
console.log('|---|---|---|---|');
for (const attack of attacks) {
  const of = (fold: string): Cell[] =>
    cells.filter((cell) => cell.attack === attack && cell.fold === fold);
  const losses = [of('mean'), of('robust')].map((some) =>
    summary(some, ({ lossAfter }) => lossAfter),
  );
  const triggered = [of('mean'), of('robust')].map((some) =>
    summary(some, ({ backdoorSuccess }) => backdoorSuccess),
  );
  console.log(`| ${attack} | ${losses.join(' | ')} | ${triggered.join(', ')} |`);
}
process.exit(0);
