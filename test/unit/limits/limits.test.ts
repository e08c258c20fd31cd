/** Every bound of protocol/limits.ts holds: at the bound taken, just beyond it refused, by the code that enforces it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as limits from '../../../protocol/limits.js';
import { OVER_SOCKETS, type LimitCase, type LimitName } from './limit-case.js';
import { MANIFEST_CASES } from './manifest-cases.js';
import { MESSAGE_CASES } from './message-cases.js';
import { MODEL_CASES } from './model-cases.js';
import { PEER_CASES } from './peer-cases.js';
import { REGISTRY_CASES } from './registry-cases.js';
import { SEAL_CASES } from './seal-cases.js';

const CASES: Partial<Record<LimitName, LimitCase>> = {
  ...MANIFEST_CASES,
  ...MESSAGE_CASES,
  ...MODEL_CASES,
  ...PEER_CASES,
  ...REGISTRY_CASES,
  ...SEAL_CASES,
};

describe('every limit', () => {
  it('has a case, here or in test/net/limits.test.ts', () => {
    const covered = [...Object.keys(CASES), ...OVER_SOCKETS];
    assert.deepEqual(covered.sort(), Object.keys(limits).sort());
  });

  for (const [name, { takes, step = 1 }] of Object.entries(CASES)) {
    it(`${name} holds at its value and not beyond`, async () => {
      const value = limits[name as LimitName];
      assert.equal(await takes(value), true, `${value} is taken`);
      assert.equal(await takes(value + step), false, `${value + step} is refused`);
    });
  }
});
