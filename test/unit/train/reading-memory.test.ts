import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { constant, input } from '../../../node/engine/graph.js';
import { matmul } from '../../../node/engine/ops/index.js';
import { planReading } from '../../../node/train/reading-memory.js';
import { userError } from '../model/fixtures.js';

const MB = 1e6;
/** 4 KB of input, 4 MB of constants and 4 MB of output. */
const program = {
  outputs: {
    y: matmul(input('x', 'float32', [1000, 1000]), constant(new Float32Array(1e6), [1000, 1000])),
  },
};
const purpose = { doing: 'generating', remedy: 'give a smaller --context,' };

describe('planReading', () => {
  it('is one line with what is taken, and of how much', () => {
    const room = { processBytes: 100 * MB, free: 2000 * MB };
    assert.equal(
      planReading(program, purpose, room),
      'generating takes about 147 MB of memory (weights 5 MB, activations 9 MB, the process 134 MB) of 2.1 GB',
    );
  });

  it('refuses what cannot fit, with the sizes and what to do', () => {
    const room = { processBytes: 100 * MB, free: 10 * MB + 32 * 2 ** 20 };
    assert.throws(
      () => planReading(program, purpose, room),
      userError(
        /^the model does not fit into memory: generating takes 13 MB \(weights 5 MB, activations 9 MB\), but only 10 MB are free: close other programs, give a smaller --context, or take a smaller model$/,
      ),
    );
  });

  it('looks at this machine by itself', () => {
    assert.match(planReading(program, purpose), /^generating takes about \d+ MB of memory/);
  });
});
