/**
 * A mixture of experts that read the same text: p(x_t) = sum of w_k p_k(x_t), and after each token w_k becomes
 * w_k p_k(x_t) / p(x_t), Bayes' rule. So the weights go to whoever predicts the text best, and over a whole text the
 * mixture loses at most -ln w_k nats against expert k, w_k its first weight, whatever the text is.
 */

/** First weights: the swarm's adapter, what continued from it on own text, and what was trained alone. */
export const EXPERT_PRIOR = [0.5, 0.25, 0.25] as const;

/** An expert whose weight is below this changes no probability by as much as float64 can tell. */
const LOG_NEGLIGIBLE = -40;

/** The weights of K experts as logarithms, so that none is lost to underflow however long the text. */
export class MixtureWeights {
  /** ln w: [K], of which the exponentials sum to 1. */
  readonly logs: Float64Array;

  /** `prior`: above 0, together 1. */
  constructor(prior: readonly number[] = EXPERT_PRIOR) {
    this.logs = Float64Array.from(prior, (weight) => Math.log(weight));
  }

  /**
   * Takes in a token, to which expert k gave the log-probability `logs[k]`; one that gave no number counts as if it had
   * ruled the token out. Returns ln p of the mixture: -Infinity where every expert did, and then the weights stay.
   */
  observe(logs: ArrayLike<number>): number {
    const own = this.logs;
    const joint = own.map((log, k) => log + impossibleIfNaN(logs[k] ?? NaN));
    const total = logSumExp(joint);
    if (total === -Infinity) return total;
    for (let k = 0; k < own.length; k++) own[k] = (joint[k] ?? NaN) - total;
    return total;
  }
}

/**
 * ln p of the mixture for each of V tokens, [V] float32. rows: [K, V], log-probabilities of each expert; logs: [K], the
 * logarithms of the weights.
 */
export function mixRows(rows: Float32Array, logs: Float64Array): Float32Array {
  const V = rows.length / logs.length;
  const counted = [...logs.keys()].filter((k) => (logs[k] ?? -Infinity) > LOG_NEGLIGIBLE);
  const mixed = new Float64Array(V);
  for (const k of counted) {
    const [log, start] = [logs[k]!, k * V];
    for (let v = 0; v < V; v++) {
      const p = Math.exp(log + rows[start + v]!);
      // An expert that gives no number has ruled the token out.
      if (p > 0) mixed[v]! += p;
    }
  }
  const mixedLogs = new Float32Array(V);
  for (let v = 0; v < V; v++) {
    const p = mixed[v]!;
    mixedLogs[v] = p > 0 ? Math.log(p) : tinyMix(rows, logs, v);
  }
  return mixedLogs;
}

/** The same of a token that is too unlikely for plain numbers. */
function tinyMix(rows: Float32Array, logs: Float64Array, v: number): number {
  const V = rows.length / logs.length;
  return logSumExp(logs.map((log, k) => log + impossibleIfNaN(rows[k * V + v]!)));
}

/** -Infinity where all are. */
function logSumExp(values: Float64Array): number {
  const peak = values.reduce((most, value) => Math.max(most, value), -Infinity);
  if (peak === -Infinity) return peak;
  return peak + Math.log(values.reduce((sum, value) => sum + Math.exp(value - peak), 0));
}

function impossibleIfNaN(log: number): number {
  return Number.isNaN(log) ? -Infinity : log;
}
