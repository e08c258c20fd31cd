import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { inTurn } from '../../../node/train/in-turn.js';

const never = new AbortController().signal;

/** Each item takes so many ms, and comes back as it is; `most` says how many were under way at a time. */
class Work {
  underWay = 0;
  most = 0;

  readonly run = async (ms: number): Promise<number> => {
    this.most = Math.max(this.most, ++this.underWay);
    await delay(ms);
    this.underWay--;
    if (ms === 13) throw new Error('thirteen');
    return ms;
  };
}

async function all<T>(results: AsyncIterable<T>): Promise<T[]> {
  const list = [];
  for await (const one of results) list.push(one);
  return list;
}

describe('inTurn', () => {
  it('gives the results in the order of the items, with as many under way as there are replicas', async () => {
    for (const replicas of [1, 2, 3, 9]) {
      const work = new Work();
      const items = [9, 1, 5, 0, 7];
      assert.deepEqual(await all(inTurn(items, work.run, never, replicas)), items);
      assert.equal(work.most, Math.min(replicas, items.length));
    }
  });

  it('ends with the first error in that order, when nothing is under way any more', async () => {
    const work = new Work();
    await assert.rejects(all(inTurn([1, 30, 13, 2], work.run, never, 3)), /thirteen/);
    assert.equal(work.underWay, 0);
  });

  it('begins nothing after an abort', async () => {
    const [work, controller] = [new Work(), new AbortController()];
    const started: number[] = [];
    const run = (ms: number): Promise<number> => {
      started.push(ms);
      if (started.length === 2) controller.abort(new Error('enough'));
      return work.run(ms);
    };
    await assert.rejects(all(inTurn([1, 2, 3, 4], run, controller.signal, 1)), /enough/);
    assert.deepEqual([started, work.underWay], [[1, 2], 0]);
  });
});
