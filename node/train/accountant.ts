/**
 * What noisy training has cost in privacy: Rényi differential privacy of the Poisson-subsampled Gaussian mechanism
 * (Mironov, Talwar and Zhang, 1908.10530), added up over the steps, as (epsilon, delta) (Canonne, Kamath and
 * Steinke, 2004.00010, Proposition 12). Two data sets are neighbours when one has one record more than the other.
 */

/** Steps taken with one setting. */
export interface NoisySteps {
  /** q: probability with which each record is in a step, above 0 and at most 1. */
  sampleRate: number;
  /** Standard deviation of the noise as a multiple of the clipping norm, above 0. */
  noise: number;
  /** 0 or more. */
  steps: number;
}

/** A bound on what one record can change: (epsilon, delta) differential privacy. */
export interface PrivacyBudget {
  epsilon: number;
  /** Above 0 and below 1. */
  delta: number;
}

/** Orders alpha at which the divergence is bounded; any one of them gives a valid epsilon, the best is taken. */
const ORDERS: readonly number[] = [
  ...Array.from({ length: 63 }, (_, i) => i + 2),
  ...[80, 96, 128, 256, 512, 1024],
];

/** No run takes more; the search for what a budget allows ends here. */
const STEPS_MAX = 2 ** 40;

/** Epsilon at `delta` of all `taken` together, whatever came between them; 0 before the first step. */
export function epsilonOf(taken: readonly NoisySteps[], delta: number): number {
  if (!taken.some(({ steps }) => steps > 0)) return 0;
  return epsilonFrom(divergences(taken), delta);
}

/**
 * The most steps with `next` (its own `steps` are not read) that keep all steps together within `budget`; 0 when
 * `taken` alone are beyond it, Infinity when even 2^40 fit.
 */
export function stepsWithin(
  taken: readonly NoisySteps[],
  next: Omit<NoisySteps, 'steps'>,
  { epsilon, delta }: PrivacyBudget,
): number {
  const before = divergences(taken);
  const each = divergences([{ ...next, steps: 1 }]);
  const fits = (steps: number): boolean =>
    epsilonFrom(
      before.map((sum, i) => sum + steps * each[i]!),
      delta,
    ) <= epsilon;
  if (fits(STEPS_MAX)) return Infinity;
  let [low, high] = [0, STEPS_MAX];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** Rényi divergence of all `taken` at each of ORDERS: it adds up. */
function divergences(taken: readonly NoisySteps[]): number[] {
  return ORDERS.map((order) =>
    taken.reduce(
      (sum, { steps, ...one }) => sum + (steps === 0 ? 0 : steps * stepDivergence(order, one)),
      0,
    ),
  );
}

function epsilonFrom(sums: readonly number[], delta: number): number {
  const epsilons = ORDERS.map((order, i) => {
    const conversion = Math.log1p(-1 / order) - Math.log(delta * order) / (order - 1);
    return sums[i]! + conversion;
  });
  return Math.max(0, Math.min(...epsilons));
}

/**
 * Of one step at a whole `order` of 2 or more (1908.10530, section 3.3):
 * ln(sum over k of C(order, k) (1 - q)^(order - k) q^k e^(k (k - 1) / (2 noise^2))) / (order - 1).
 */
function stepDivergence(order: number, { sampleRate, noise }: Omit<NoisySteps, 'steps'>): number {
  if (sampleRate === 1) return order / (2 * noise ** 2);
  const terms: number[] = [];
  let logChoose = 0;
  for (let k = 0; k <= order; k++) {
    if (k > 0) logChoose += Math.log((order - k + 1) / k);
    terms.push(
      logChoose +
        (order - k) * Math.log1p(-sampleRate) +
        k * Math.log(sampleRate) +
        (k * (k - 1)) / (2 * noise ** 2),
    );
  }
  const largest = Math.max(...terms);
  const sum = terms.reduce((total, term) => total + Math.exp(term - largest), 0);
  // Rounding may leave less than 0 where next to nothing is revealed.
  return Math.max(0, largest + Math.log(sum)) / (order - 1);
}
