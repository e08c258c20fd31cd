import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ortExecutor } from '../../../node/engine/ort.js';

describe('ortExecutor', () => {
  it('says what it runs on', () => {
    assert.equal(ortExecutor({ threads: 2 }).device, 'cpu (2 threads)');
    assert.equal(ortExecutor({ threads: 1 }).device, 'cpu (1 thread)');
  });
});
