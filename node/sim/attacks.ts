/**
 * Hostile peers as strategies: what each makes of its honest update, of its data or of its messages. All know
 * what every honest peer computed in the epoch (the strongest attacker), and sign with their own keys.
 */
import type { Prng } from '../../protocol/prng.js';
import type { DataRecord } from '../data/records.js';
import type { Accomplice, HonestRows } from './accomplice.js';
import { againstMean, drift, fixedDirection, minMax, minSum } from './hidden.js';
import { backDated, equivocate, replay } from './messages.js';
import { withBackdoor, withFlippedLabels } from './backdoor.js';

/** What a strategy has to go by when it forges a delta; deltas are what is subtracted: [adapterSize] float64. */
export interface Scene {
  /** What honest training gave this peer; zero when the strategy does not train. */
  own: Float64Array;
  /** `own` of this peer's first epoch. */
  first: Float64Array;
  /** The honest peers' deltas; null while none is known. */
  honest: HonestRows | null;
  /** By how much the swarm's adapter went down since this peer looked last; zero at first. */
  drift: Float64Array;
  random: Prng;
}

export interface Attack {
  /** One line for --help and tables. */
  what: string;
  /** What the peer trains on instead of its examples. */
  poison?: (records: readonly DataRecord[]) => DataRecord[];
  /** What the peer sends, through error feedback and codec, instead of `scene.own`. */
  forge?: (scene: Scene) => Float64Array;
  /** idle: no training of its own; late: it waits for what the honest computed; rests: it sends no update. */
  habit?: 'idle' | 'late' | 'rests';
  /** Messages beside or instead of the peer's own, in the middle of each epoch. */
  act?: (accomplice: Accomplice, epoch: number) => Promise<void>;
}

/**
 * Standard deviations by which "a little is enough" moves the mean. The paper's formula gives 0 for 2 of 10
 * (four honest rows must lie beyond), and an attack that changes nothing is none.
 */
const ALIE_DEVIATIONS = 1.5;

/** IPM's epsilon: the hostile rows point against the honest mean, and are about as long as an honest row. */
const IPM_EPSILON = 2;

/** Length of Gaussian noise beside the honest delta. */
const NOISE_SCALE = 10;

/** As in model replacement: what is hostile counts as much as if all peers had sent it. */
const BOOST = 5;

/** Of what a burst of updates for epochs gone by is made: against the honest mean, as long as the clip leaves. */
const BURST_SCALE = 10;
/** When the burst comes, as a share of the run. Rows that hide wait for the last epoch: nobody unlearns them. */
const BURST_AT = 0.75;

/** What one that hides sends in its own time; its honest update while it knows nothing of the others. */
const hiding =
  (rowOf: (honest: HonestRows) => Float64Array) =>
  ({ own, honest }: Scene): Float64Array =>
    honest === null ? own : rowOf(honest);

const times =
  (factor: number) =>
  ({ own }: Scene): Float64Array =>
    own.map((value) => factor * value);

export const ATTACKS = {
  /** Li et al. 2019, RSA (1811.03761). */
  'sign-flip': { what: 'the honest update with its sign turned', forge: times(-1) },
  /** Blanchard et al. 2017 (1703.02757): one large row moves a mean anywhere. */
  'scaled-10': { what: 'the honest update, turned, times 10', forge: times(-10) },
  'scaled-1000': { what: 'the honest update, turned, times 1000', forge: times(-1000) },
  /** Blanchard et al. 2017 (1703.02757). */
  gaussian: { what: 'noise ten times as long as an honest update', forge: gaussian },
  /** "A Little Is Enough": Baruch et al. 2019 (1902.06156). */
  alie: { what: 'the honest mean less 1.5 standard deviations', forge: alie, habit: 'late' },
  /** Inner-product manipulation, "Fall of Empires": Xie et al. 2019 (1903.03936). */
  ipm: { what: 'against the honest mean, twice as long', forge: ipm, habit: 'late' },
  /** Biggio et al. 2012 (1206.6389); Tolpegin et al. 2020 (2007.08432). */
  'label-flip': { what: 'honest training on wrong answers', poison: withFlippedLabels },
  /** Bagdasaryan et al. 2018 (1807.00459), with their model replacement. */
  backdoor: {
    what: 'training on trigger and target, times 5',
    poison: withBackdoor,
    forge: times(BOOST),
  },
  /** Lin et al. 2019 (1911.12560): the swarm's last change is sent as one's own work. */
  'free-rider': {
    what: 'no training: the last change of the adapter',
    forge: ({ drift }) => drift,
    habit: 'idle',
  },
  /** Two signed updates for one slot, told to different members (Lamport et al. 1982's traitor). */
  equivocator: { what: 'two updates for one epoch, told to different members', act: equivocate },
  /** The bytes of others, and an old update of one's own signed anew. */
  replay: {
    what: 'its first update and all it ever heard, again in each epoch',
    forge: ({ first }) => first,
    act: replay,
  },
  /** Possible wherever a set and not an order is agreed on: history is rewritten at the end. */
  'back-dated': {
    what: 'silence, then turned updates for all epochs gone by',
    habit: 'rests',
    act: backDated(({ mean }) => mean.map((value) => -BURST_SCALE * value), BURST_AT),
  },
  /** Shejwalkar and Houmansadr, NDSS 2021: "Manipulating the Byzantine", with the mean's opposite as direction. */
  'min-max': {
    what: 'against the honest mean, no farther from any honest row than those are from each other',
    forge: hiding((honest) => minMax(honest, againstMean(honest))),
    habit: 'late',
  },
  'min-sum': {
    what: 'against the honest mean, no farther from all honest rows together than one of them is',
    forge: hiding((honest) => minSum(honest, againstMean(honest))),
    habit: 'late',
  },
  /** The same direction in every epoch, which none of them averages away. */
  drift: {
    what: 'one fixed direction, twice as long as an honest update',
    forge: hiding(drift),
    habit: 'late',
  },
  'hidden-drift': {
    what: 'the honest mean and one fixed direction, within the spread of the honest rows',
    forge: hiding((honest) => minMax(honest, fixedDirection(honest.mean.length))),
    habit: 'late',
  },
  'back-dated-min-max': {
    what: 'silence, then min-max for all epochs gone by, in the last epoch',
    habit: 'rests',
    act: backDated((honest) => minMax(honest, againstMean(honest)), 1),
  },
  'back-dated-min-sum': {
    what: 'silence, then min-sum for all epochs gone by, in the last epoch',
    habit: 'rests',
    act: backDated((honest) => minSum(honest, againstMean(honest)), 1),
  },
  'back-dated-drift': {
    what: 'silence, then hidden-drift for all epochs gone by, in the last epoch',
    habit: 'rests',
    act: backDated((honest) => minMax(honest, fixedDirection(honest.mean.length)), 1),
  },
} as const satisfies Readonly<Record<string, Attack>>;

export type AttackName = keyof typeof ATTACKS;
export const ATTACK_NAMES = Object.keys(ATTACKS) as AttackName[];

/** Attacks on the text: a synthetic problem has none. */
export function needsText(name: AttackName): boolean {
  return 'poison' in ATTACKS[name];
}

function gaussian({ own, random }: Scene): Float64Array {
  let squares = 0;
  for (const value of own) squares += value * value;
  const deviation = NOISE_SCALE * Math.sqrt(squares / own.length);
  return own.map(() => deviation * normal(random));
}

function alie({ own, honest }: Scene): Float64Array {
  if (honest === null) return own;
  const { mean, deviation } = honest;
  return mean.map((value, i) => value - ALIE_DEVIATIONS * (deviation[i] ?? 0));
}

function ipm({ own, honest }: Scene): Float64Array {
  return honest === null ? own : honest.mean.map((value) => -IPM_EPSILON * value);
}

/** Box and Muller. */
function normal(random: Prng): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.nextFloat()));
  return radius * Math.cos(2 * Math.PI * random.nextFloat());
}
