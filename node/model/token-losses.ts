/** The loss of single tokens, from which the losses of batches and of examples are made. */
import { constant, scalar, type Value } from '../engine/graph.js';
import type { CrossEntropyAttributes } from '../engine/ops/loss.js';
import { equal, linearCrossEntropy, mul, reshape, select } from '../engine/ops/index.js';
import { IGNORED_TARGET } from './token-batch.js';

/**
 * hidden: [N, C], table: [V, C] float32, targets: int32 of N elements -> nats, 0 where none is trained, and 1 where
 * one is: [N] float32 each. `options`: of linearCrossEntropy.
 */
export function tokenLosses(
  hidden: Value,
  table: Value,
  targets: Value,
  options: CrossEntropyAttributes = {},
): { nats: Value; trained: Value } {
  const flat = reshape(targets, [hidden.shape[0]!]);
  const someToken = select(isIgnored(flat), constant(Int32Array.of(0), []), flat);
  const trained = trainedOf(flat);
  return { nats: mul(trained, linearCrossEntropy(hidden, table, someToken, options)), trained };
}

/** targets: int32 -> 1 where a token is trained, else 0: float32 of the same shape. */
export function trainedOf(targets: Value): Value {
  return select(isIgnored(targets), scalar(0), scalar(1));
}

function isIgnored(targets: Value): Value {
  return equal(targets, constant(Int32Array.of(IGNORED_TARGET), []));
}
