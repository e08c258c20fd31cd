/** The loss of single tokens, from which the losses of batches and of examples are made. */
import { constant, scalar, type Value } from '../engine/graph.js';
import { equal, linearCrossEntropy, mul, reshape, select } from '../engine/ops/index.js';
import { IGNORED_TARGET } from './token-batch.js';

/**
 * hidden: [N, C], table: [V, C] float32, targets: [B, T] int32, N = B T -> nats, 0 where none is trained, and 1 where
 * one is: [N] float32 each.
 */
export function tokenLosses(
  hidden: Value,
  table: Value,
  targets: Value,
): { nats: Value; trained: Value } {
  const flat = reshape(targets, [hidden.shape[0]!]);
  const ignored = equal(flat, constant(Int32Array.of(IGNORED_TARGET), []));
  const trained = select(ignored, scalar(0), scalar(1)); // [N]
  const someToken = select(ignored, constant(Int32Array.of(0), []), flat);
  return { nats: mul(trained, linearCrossEntropy(hidden, table, someToken)), trained };
}
