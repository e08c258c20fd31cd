/** A short flood (npm run flood): what one process sends without end and another never reads costs a peer bounded memory. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { flood, problemsOf } from '../flood/run.js';

const SECONDS = 10;
const isLinux = { skip: process.platform === 'linux' ? false : 'needs /proc' };

describe('a peer that is flooded', () => {
  it('stays within its memory, makes epochs and hears its members', isLinux, async (t) => {
    const dir = await mkdtemp(path.join(tmpdir(), 'murmurate-flood-'));
    try {
      const report = await flood(dir, SECONDS, new AbortController().signal);
      t.diagnostic(JSON.stringify(report));
      assert.deepEqual(problemsOf(report), []);
    } finally {
      await rm(dir, { recursive: true, force: true });
    }
  });
});
