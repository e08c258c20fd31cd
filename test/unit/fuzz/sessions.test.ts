/** Whole sessions with a hostile remote stay within what each received byte may cost. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { UserError } from '../../../node/errors.js';
import { checkCost, type SessionScript } from '../../fuzz/cost.js';
import { FuzzFindingError } from '../../fuzz/oracle.js';
import { SCRIPTS } from '../../fuzz/scripts.js';

/** Sessions of each script, the same on every machine, and bytes of each: `npm run fuzz` tries more and longer ones. */
const SESSIONS = 3;
/** A sync session has more phases than the others, and more ways through them. */
const SYNC_SESSIONS = 30;
const BYTES_MAX = 512 * 1024;
const SYNC_BYTES_MAX = 2 * 1024 * 1024;

describe('sessions with a hostile remote', () => {
  for (const [name, script] of Object.entries(SCRIPTS)) {
    it(`${name}: cost no more than their bounds for each byte`, async () => {
      const isSync = name === 'sync';
      const bytesMax = isSync ? SYNC_BYTES_MAX : BYTES_MAX;
      for (let i = 0; i < (isSync ? SYNC_SESSIONS : SESSIONS); i++) {
        await checkCost(script, `${name}/${i}`, bytesMax);
      }
    });
  }
});

describe('the oracle of sessions', () => {
  const frame = new Uint8Array(1_000);
  const scriptOf = (take: (frame: Uint8Array) => void, fixedMs: number): SessionScript => ({
    bounds: { fixedMs, usPerByte: 1, stretchMs: 50, fixedBytes: 5e5, bytesPerByte: 2 },
    refusals: [UserError],
    goesOn: false,
    *frames(_random, bytesMax) {
      for (let bytes = 0; bytes < bytesMax; bytes += frame.length) yield frame.slice();
    },
    start: () => ({
      take: (received) => {
        take(received);
        return [];
      },
    }),
  });
  const spin = (ms: number): void => {
    const start = process.cpuUsage();
    // Asking for the time is slow itself.
    while (process.cpuUsage(start).user < 1_000 * ms) for (let i = 0; i < 1e6; i++);
  };
  const check = (take: (frame: Uint8Array) => void, bytes = 5e5, fixedMs = 200): Promise<unknown> =>
    checkCost(scriptOf(take, fixedMs), 'x', bytes);

  it('lets pass what is cheap, and what refuses as it documents', async () => {
    await check(() => undefined);
    await check(() => {
      throw new UserError('no');
    });
  });

  it('finds what retains more than it may for each byte, in the heap or in buffers', async () => {
    const kept: unknown[] = [];
    await assert.rejects(
      check((bytes) => kept.push(new Uint8Array(4 * bytes.length))),
      /retained/,
    );
    await assert.rejects(
      check((bytes) => kept.push(Array.from(bytes))),
      FuzzFindingError,
    );
    assert.ok(kept.length > 0);
  });

  it('finds what takes long in all, or in one stretch', async () => {
    const slow = check(() => spin(20), 2e4);
    await assert.rejects(slow, /took \d+ ms/);
    let count = 0;
    const halting = check(
      () => {
        if (count++ % 10 === 0) spin(60);
      },
      1e4,
      5_000,
    );
    await assert.rejects(halting, /blocked for \d+ ms/);
  });

  it('finds an error that is not documented', async () => {
    const broken = (): never => {
      throw new TypeError('x');
    };
    await assert.rejects(check(broken), /not documented: TypeError: x/);
  });
});
