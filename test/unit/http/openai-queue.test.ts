import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Queue } from '../../../node/http/openai/queue.js';

const never = new AbortController().signal;

/** Work that ends when it is told to. */
function gate(): { work: () => Promise<string>; open: (value: string) => void; began: boolean } {
  let open = (_: string): void => undefined;
  const promise = new Promise<string>((resolve) => (open = resolve));
  const made = {
    began: false,
    open: (value: string) => open(value),
    work: () => {
      made.began = true;
      return promise;
    },
  };
  return made;
}

describe('Queue', () => {
  it('does one after the other, in order, also after one that fails', async () => {
    const queue = new Queue(3);
    const order: number[] = [];
    const failing = queue.run(() => Promise.reject(new Error('no')), never);
    const rest = [1, 2].map((i) => queue.run(async () => void order.push(i), never));
    await assert.rejects(failing, /no/);
    await Promise.all(rest);
    assert.deepEqual(order, [1, 2]);
  });

  it('is full with as many as may wait, and has room again when one that waits goes', async () => {
    const queue = new Queue(1);
    const [first, second] = [gate(), gate()];
    const running = queue.run(first.work, never);
    const client = new AbortController();
    const waiting = queue.run(second.work, client.signal);
    assert.ok(queue.isFull);
    client.abort();
    await assert.rejects(waiting, { name: 'AbortError' });
    assert.ok(!queue.isFull);
    first.open('done');
    assert.equal(await running, 'done');
    await queue.run(async () => undefined, never);
    assert.ok(!second.began, 'what was stopped before its turn never begins');
  });

  it('begins the next only when the one that was stopped is over', async () => {
    const queue = new Queue(1);
    const [first, second] = [gate(), gate()];
    const client = new AbortController();
    const running = queue.run(first.work, client.signal);
    while (!first.began) await Promise.resolve();
    const next = queue.run(second.work, never);
    client.abort();
    await assert.rejects(running, { name: 'AbortError' });
    assert.ok(!second.began);
    first.open('late');
    second.open('next');
    assert.equal(await next, 'next');
  });
});
