import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Prng } from '../../../protocol/prng.js';
import { verdict, type TimedSample } from '../../soak/verdict.js';

const PEERS = 4;
const MINUTE_MS = 60_000;

/** A sample each minute: noise of a few MB and handles, and what `change` adds by the hour. */
function samples(minutes: number, change: (hours: number) => Partial<TimedSample>): TimedSample[] {
  const random = new Prng(Uint8Array.of(1), 'soak');
  return Array.from({ length: minutes }, (_, minute) => {
    const noise = 4 * random.nextFloat();
    const level = { memoryMb: 70 + noise, residentMb: 200, connections: 12 };
    return {
      ...{ atMs: minute * MINUTE_MS, ...level, handles: 110 + noise, streams: 24 + noise },
      ...change(minute / 60),
    };
  });
}

const problemsOf = (minutes: number, change: (hours: number) => Partial<TimedSample>): string[] =>
  verdict(samples(minutes, change), PEERS).problems;

describe('the verdict on a soak', () => {
  it('accepts two hours of noise', () => {
    assert.deepEqual(
      problemsOf(120, () => ({})),
      [],
    );
  });

  it('accepts growth that ends with the first half', () => {
    assert.deepEqual(
      problemsOf(240, (hours) => (hours < 1 ? { memoryMb: 40 + 20 * hours } : {})),
      [],
    );
  });

  it('names the measure that grows, with slope and bound', () => {
    const [memory = '', ...more] = problemsOf(120, (hours) => ({ memoryMb: 70 + 10 * hours }));
    assert.match(memory, /^memory .*: 10\.00 ± 0\.00 more an hour; at most 7\.17 are allowed$/);
    assert.deepEqual(more, []);
    const [handles = ''] = problemsOf(120, (hours) => ({ handles: 110 + 50 * hours }));
    assert.match(handles, /^handles: 50\.00 /);
    const [streams = ''] = problemsOf(120, (hours) => ({ streams: 24 + 50 * hours }));
    assert.match(streams, /^open streams: 50\.00 /);
  });

  it('does not accept a soak that is too short to tell', () => {
    const problems = problemsOf(20, () => ({}));
    assert.ok(
      problems.some((problem) => /^memory .* too vague .*: take more --hours$/.test(problem)),
    );
  });
});
