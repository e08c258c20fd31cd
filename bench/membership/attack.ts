/** How well scores tell members from others. */

/** Of one attack: higher scores mean "was trained on". */
export interface Rates {
  /** Probability that a member has the higher score of a pair; 0.5 is a coin. */
  auc: number;
  /** Members found when at most 1 % of the others are taken for members; 0.01 is a coin. */
  found: number;
}

/** Shares of others that may be taken for members. */
const FALSE_RATE = 0.01;

export function ratesOf(scores: readonly number[], isMember: readonly boolean[]): Rates {
  const order = scores.map((score, i) => ({ score, member: isMember[i] ?? false }));
  order.sort((a, b) => b.score - a.score);
  const members = order.filter(({ member }) => member).length;
  const others = order.length - members;
  let [membersSoFar, othersSoFar, pairs, found] = [0, 0, 0, 0];
  for (const { member } of order) {
    if (member) {
      membersSoFar++;
    } else {
      othersSoFar++;
      pairs += membersSoFar;
    }
    if (othersSoFar <= FALSE_RATE * others) found = membersSoFar;
  }
  return { auc: pairs / (members * others), found: found / members };
}

/** Of two vectors of one length; 0 where one is zero. */
export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [dot, normA, normB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i] ?? 0, b[i] ?? 0];
    dot += x * y;
    normA += x * x;
    normB += y * y;
  }
  return dot === 0 ? 0 : dot / Math.sqrt(normA * normB);
}
