/** What the second half of a soak says: the first half fills caches, tables and the compiler's code. */
import Table from 'cli-table3';
import { JUDGED, type Sample } from './sample.js';
import { trendOf } from './trend.js';

export interface TimedSample extends Sample {
  atMs: number;
}

const HOUR_MS = 3_600_000;

/** The judged measures with slope and bound, and a sentence for each that does not hold. */
export function verdict(
  samples: readonly TimedSample[],
  peers: number,
): { table: string; problems: string[] } {
  const half = samples.slice(samples.length >>> 1);
  const table = new Table({
    head: ['second half', 'mean', 'an hour', 'bound an hour'],
    style: { head: [], border: [] },
  });
  const problems: string[] = [];
  for (const { measure, words, perPeerHourMax } of JUDGED) {
    const points = half.map((sample) => ({ x: sample.atMs / HOUR_MS, y: sample[measure] }));
    const { slope, uncertainty } = trendOf(points);
    const mean = points.reduce((sum, { y }) => sum + y, 0) / points.length;
    const max = perPeerHourMax * peers;
    const growth = `${slope.toFixed(2)} ± ${uncertainty.toFixed(2)}`;
    table.push([words, mean.toFixed(1), growth, max.toFixed(2)]);
    if (slope - uncertainty > max) {
      problems.push(`${words}: ${growth} more an hour; at most ${max.toFixed(2)} are allowed`);
    } else if (slope + uncertainty > max) {
      problems.push(
        `${words}: ${growth} more an hour is too vague to be held against ${max.toFixed(2)}: take more --hours`,
      );
    }
  }
  return { table: table.toString(), problems };
}
