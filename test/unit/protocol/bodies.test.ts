import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryBodies } from '../../../protocol/bodies.js';
import { UpdateLog } from '../../../protocol/log.js';
import type { Update } from '../../../protocol/update.js';
import { testIdentity, testRun, testUpdate } from '../../support/runs.js';

const run = testRun();
const update = testUpdate(run, testIdentity(1), 3);

describe('MemoryBodies', () => {
  it('gives back what was put, by the id alone, and throws for anything else', () => {
    const bodies = new MemoryBodies();
    assert.throws(() => bodies.read(update), RangeError);
    bodies.put(update);
    const { scales, codes } = update;
    assert.deepEqual(bodies.read(update), { scales, codes });
    assert.throws(() => bodies.read(testUpdate(run, testIdentity(1), 4)), RangeError);
  });
});

describe('a log', () => {
  it('hands the body of each update that it adds to its bodies, once, and of no other', () => {
    const put: string[] = [];
    const bodies = {
      put: ({ id }: Update) => void put.push(id),
      read: () => assert.fail('nobody asked'),
    };
    const log = new UpdateLog({ bodies, authorsMax: 1 });
    log.insert(update);
    log.insert(update);
    const fork = testUpdate(run, testIdentity(1), 3, { salt: 'fork' });
    assert.equal(log.insert(fork).kind, 'evicted');
    const before = testUpdate(run, testIdentity(1), 2);
    log.insert(before);
    assert.throws(() => log.insert(testUpdate(run, testIdentity(2), 9)));
    assert.deepEqual(put, [update.id, before.id]);
  });
});
