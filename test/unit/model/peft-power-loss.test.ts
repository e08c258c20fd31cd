/** An export that is cut short leaves one adapter whole or none: never the weights of one with the config of another. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { UserError } from '../../../node/errors.js';
import { readPeftAdapter, writePeftAdapter } from '../../../node/model/peft.js';
import { adapterLayout } from '../../../protocol/adapter.js';
import { cutPower } from '../../support/power-loss.js';
import { RecordingDisk } from '../../support/recording-disk.js';
import { testRun } from '../../support/runs.js';

const scratch = await mkdtemp(
  join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'murmurate-peft-'),
);
after(() => rm(scratch, { recursive: true, force: true }));

const { adapter: spec } = testRun().manifest;
const { size } = adapterLayout(spec);
/** The swarm's adapter, a personal one of the same run, and one of another run with another alpha. */
const ADAPTERS = {
  swarm: { spec, value: 1, isPersonal: false },
  personal: { spec, value: 2, isPersonal: true },
  other: { spec: { ...spec, alpha: 2 * spec.alpha }, value: 3, isPersonal: false },
};
type Name = keyof typeof ADAPTERS;

async function write(dir: string, name: Name): Promise<void> {
  const { spec: ownSpec, value, isPersonal } = ADAPTERS[name];
  const theta = new Float32Array(size).fill(value);
  await writePeftAdapter(dir, { spec: ownSpec, theta, baseModelName: 'base', isPersonal });
}

/** Which adapter lies in `dir`; "none" where PEFT would refuse it, "half" where it would load nonsense. */
async function found(dir: string): Promise<Name | 'none' | 'half'> {
  try {
    const { alpha, theta } = await readPeftAdapter(dir);
    const names = Object.keys(ADAPTERS) as Name[];
    const isWhole = (name: Name): boolean =>
      ADAPTERS[name].spec.alpha === alpha && theta.every((one) => one === ADAPTERS[name].value);
    return names.find(isWhole) ?? 'half';
  } catch (error) {
    if (error instanceof UserError) return 'none';
    throw error;
  }
}

describe('an export that loses power after any operation on the disk', () => {
  for (const [before, next] of [
    ['swarm', 'personal'],
    ['other', 'personal'],
    ['personal', 'swarm'],
  ] as const) {
    it(`leaves the ${before} adapter, the ${next} one or none, whole`, async () => {
      const place = { from: join(scratch, `${before}-${next}`), to: join(scratch, 'after') };
      const recording = new RecordingDisk();
      let from: number;
      try {
        await write(place.from, before);
        from = recording.trace.length;
        await write(place.from, next);
      } finally {
        recording.close();
      }
      assert.equal(await found(place.from), next);
      const seen = new Set<string>();
      const fault = async (): Promise<string | null> => {
        const now = await found(place.to);
        seen.add(now);
        const isSame = ADAPTERS[before].spec.alpha === ADAPTERS[next].spec.alpha;
        const allowed = [before, next, ...(isSame ? [] : ['none'])];
        return allowed.includes(now) ? null : `the adapter is ${now}`;
      };
      const { states, faults } = await cutPower(recording.trace, place, null, fault, { from });
      assert.deepEqual(faults, []);
      assert.ok(states > 5 && seen.has(before) && seen.has(next));
    });
  }
});
