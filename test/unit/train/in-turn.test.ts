import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { inTurn } from '../../../node/train/in-turn.js';

const never = new AbortController().signal;
const ITEMS = [0, 1, 2, 3, 4];

/** Each item takes until it is ended, and comes back as it is. */
class Work {
  readonly begun: number[] = [];
  private readonly ends = new Map<number, () => void>();

  readonly run = (item: number): Promise<number> => {
    this.begun.push(item);
    return new Promise((resolve, reject) => {
      this.ends.set(item, () => (item === 3 ? reject(new Error('three')) : resolve(item)));
    });
  };

  /** The items under way, once no more are begun. */
  async underWay(): Promise<number[]> {
    for (let before = -1; before !== this.begun.length;) {
      before = this.begun.length;
      for (let i = 0; i < 5; i++) await setImmediate();
    }
    return [...this.ends.keys()];
  }

  end(item: number): void {
    const end = this.ends.get(item)!;
    this.ends.delete(item);
    end();
  }
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
      const items = ITEMS.filter((item) => item !== 3);
      const results = all(inTurn(items, work.run, never, replicas));
      assert.deepEqual(await work.underWay(), items.slice(0, replicas));
      // The last begun ends first.
      for (let now = await work.underWay(); now.length > 0; now = await work.underWay()) {
        for (const item of now.reverse()) work.end(item);
      }
      assert.deepEqual(await results, items);
    }
  });

  it('ends with the first error in that order, when nothing is under way any more', async () => {
    const work = new Work();
    let hasEnded = false;
    const results = all(inTurn(ITEMS, work.run, never, 3)).finally(() => (hasEnded = true));
    const rejected = assert.rejects(results, /three/);
    for (const item of [0, 1, 2]) {
      await work.underWay();
      work.end(item);
    }
    assert.deepEqual(await work.underWay(), [3, 4]);
    work.end(3);
    assert.deepEqual([await work.underWay(), hasEnded], [[4], false]);
    work.end(4);
    await rejected;
  });

  it('begins nothing after an abort', async () => {
    const [work, controller] = [new Work(), new AbortController()];
    const rejected = assert.rejects(all(inTurn(ITEMS, work.run, controller.signal, 2)), /enough/);
    assert.deepEqual(await work.underWay(), [0, 1]);
    controller.abort(new Error('enough'));
    work.end(0);
    assert.deepEqual([await work.underWay(), work.begun], [[1], [0, 1]]);
    work.end(1);
    await rejected;
  });
});
