import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import '../../../node/net/polyfill.js';
import { chooseRun, isRun } from '../../../node/cli/find-run.js';
import { UserError } from '../../../node/errors.js';
import type { KnownRun } from '../../../node/net/run-registry.js';
import { encodeManifest } from '../../../protocol/manifest-codec.js';
import { sampleManifest } from '../manifest-sample.js';

function known(name: string, peers = 0): KnownRun {
  const run = encodeManifest({ ...sampleManifest(), name });
  const addresses = ['/ip4/127.0.0.1/tcp/1'];
  return { run, peers: Array.from({ length: peers }, (_, i) => ({ peerId: `p${i}`, addresses })) };
}

describe('chooseRun()', () => {
  it('takes the only run', () => {
    const only = known('a');
    assert.equal(chooseRun([only], null, 'ADDR'), only);
  });

  it('lists several runs with their peers and asks for --run', () => {
    const [a, b] = [known('a', 2), known('b', 1)];
    assert.throws(
      () => chooseRun([a, b], null, 'ADDR'),
      (error) => {
        assert.ok(error instanceof UserError);
        assert.equal(error.exitCode, 2);
        assert.equal(
          error.message,
          `ADDR knows 2 runs: ${a.run.id.slice(0, 12)} "a" (tiny-base, 2 peers), ` +
            `${b.run.id.slice(0, 12)} "b" (tiny-base, 1 peer); choose one with --run ID`,
        );
        return true;
      },
    );
  });

  it('finds a run by its name, its id and the beginning of its id', () => {
    const [a, b] = [known('a'), known('b')];
    for (const wanted of ['b', b.run.id, b.run.id.slice(0, 12)]) {
      assert.equal(chooseRun([a, b], wanted, 'ADDR'), b);
    }
  });

  it('says what there is when the wanted run is not', () => {
    assert.throws(
      () => chooseRun([known('a')], 'c', 'ADDR'),
      /ADDR knows no run "c"; it knows [0-9a-f]{12} "a" \(tiny-base, 0 peers\); choose one with --run ID$/,
    );
  });

  it('asks again when a name is not unique', () => {
    const twin = encodeManifest({
      ...sampleManifest(),
      name: 'a',
      schedule: { ...sampleManifest().schedule, epochsMax: 21 },
    });
    assert.throws(() => chooseRun([known('a'), { run: twin, peers: [] }], 'a', 'ADDR'), /2 runs/);
  });
});

describe('isRun()', () => {
  it('needs six digits of an id, so that a short name is not taken for one', () => {
    const { run } = known('a');
    assert.equal(isRun(run, run.id.slice(0, 5)), false);
    assert.equal(isRun(run, run.id.slice(0, 6)), true);
  });
});
