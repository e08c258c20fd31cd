import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { gradients } from '../../../node/engine/autodiff.js';
import type { TensorData } from '../../../node/engine/executor.js';
import { input, type Value } from '../../../node/engine/graph.js';
import { graphMemory } from '../../../node/engine/memory.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import {
  chunkedLoss,
  chunkedLossAndGradient,
  chunkTokens,
  meanLoss,
} from '../../../node/model/loss-head.js';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';

const [N, C, V] = [22, 5, 64];
const inputs = {
  hidden: input('hidden', 'float32', [N, C]),
  table: input('table', 'float32', [V, C]),
  targets: input('targets', 'int32', [2, N / 2]),
};
/** Rows of logits in a chunk; the last has two. */
const ROWS = 4;

const wave = (size: number, step: number): Float32Array =>
  Float32Array.from({ length: size }, (_, i) => 2 * Math.sin(step * i + 1));
const feeds = {
  hidden: wave(N * C, 0.7),
  table: wave(V * C, 1.3),
  // Whole chunks without a trained token, and some with a few.
  targets: Int32Array.from({ length: N }, (_, i) =>
    i < 9 || i % 3 === 0 ? IGNORED_TARGET : 3 * i,
  ),
};

async function evaluate(
  outputs: Record<string, Value>,
  fed: Record<string, TensorData> = feeds,
): Promise<Record<string, TensorData>> {
  const graph = await ortExecutor({ threads: 1 }).compile({ outputs });
  try {
    return await graph.run(fed);
  } finally {
    await graph.dispose();
  }
}

function assertClose(actual: TensorData, expected: TensorData): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs(actual[i]! - value) < 1e-5, `${actual[i]} for ${value} at ${i}`);
  }
}

describe('the loss over chunks of tokens', () => {
  it('and its gradient are those of all tokens at once', async () => {
    const { loss } = meanLoss(inputs);
    const [hidden, table] = gradients(loss, [inputs.hidden, inputs.table]) as [Value, Value];
    const expected = await evaluate({ loss, hidden, table });
    const actual = await evaluate({ ...chunkedLossAndGradient(inputs, ROWS) });
    const alone = await evaluate({ loss: chunkedLoss(inputs, ROWS).loss });
    assert.ok(expected['loss']![0]! > 1 && expected['hidden']!.some((value) => value !== 0));
    for (const name of ['loss', 'hidden', 'table']) assertClose(actual[name]!, expected[name]!);
    assertClose(alone['loss']!, expected['loss']!);
  });

  it('is 0 where nothing is trained', async () => {
    const targets = new Int32Array(N).fill(IGNORED_TARGET);
    const chunks = { ...chunkedLossAndGradient(inputs, ROWS) };
    const results = await evaluate(chunks, { ...feeds, targets });
    for (const data of Object.values(results)) assert.ok(data.every((value) => value === 0));
  });

  it('reads a large table for 256 tokens at a time, and a small one for more', () => {
    for (const [classes, tokens] of [
      [152_064, 256],
      [49_152, 256],
      [8192, 1024],
    ] as const) {
      assert.equal(chunkTokens(classes), tokens);
    }
  });

  it('has the logits of one chunk in memory, and not of all', () => {
    const { loss } = meanLoss(inputs);
    const [gradient] = gradients(loss, [inputs.hidden]);
    const whole = graphMemory({ outputs: { loss, gradient: gradient! } }).peak;
    const { loss: sum, hidden } = chunkedLossAndGradient(inputs, ROWS);
    const chunked = graphMemory({ outputs: { sum, hidden } }).peak;
    const logits = 4 * N * V;
    assert.ok(whole - chunked > logits, `${whole} and ${chunked} for ${logits} of logits`);
  });
});
