/**
 * What the format of the frozen weights changes: in one peer's training (the first gradient, and the loss of each step
 * beside fp32's on the same batches), or with --swarm in the adapter of three peers (its loss on text that none has).
 * AdamW, LoRA r = 8 on all linear layers, one thread.
 *   npm run bench:weights -- TEXT... [--model DIR] [--formats bf16,int8,int4] [--batch 8] [--length 128]
 *     [--steps 200] [--learning-rate 4e-3] [--seed 0] [--swarm [--epochs 12] [--test 40]]
 */
import { parseArgs } from 'node:util';
import { EXIT_USAGE, UserError } from '../node/errors.js';
import type { WeightFormat } from '../node/model/weight-format.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { parseFormats } from './open-weights.js';
import { compareCurves } from './weight-curves.js';
import { compareSwarms } from './weight-swarm.js';

const { values, positionals: files } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string', default: EMBEDDED_MODEL_DIRECTORY },
    formats: { type: 'string', default: 'bf16,int8,int4' },
    batch: { type: 'string', default: '8' },
    length: { type: 'string', default: '128' },
    /** Of all training; with --swarm those of a peer in all epochs together. */
    steps: { type: 'string', default: '200' },
    'learning-rate': { type: 'string', default: '4e-3' },
    seed: { type: 'string', default: '0' },
    swarm: { type: 'boolean', default: false },
    epochs: { type: 'string', default: '12' },
    test: { type: 'string', default: '40' },
  },
});

async function main(): Promise<void> {
  if (files.length === 0) throw new UserError('one text file or more is needed', EXIT_USAGE);
  const [batchSize, sequenceLength, steps, learningRate] = [
    ...[values.batch, values.length, values.steps, values['learning-rate']],
  ].map(Number) as [number, number, number, number];
  const seed = new Uint8Array(32).fill(Number(values.seed));
  const formats = parseFormats('--formats', values.formats).filter((one) => one !== 'fp32');
  const common = { modelDir: values.model, files, batchSize, sequenceLength, learningRate, seed };
  if (!values.swarm) return compareCurves({ ...common, formats, steps });
  const alike: WeightFormat[][] = (['fp32', ...formats] as const).map((one) => [one]);
  const mixed: WeightFormat[] = ['fp32', ...formats].slice(-3) as WeightFormat[];
  const [epochs, test] = [Number(values.epochs), Number(values.test)];
  const swarms = [...alike, mixed];
  return compareSwarms({ ...common, epochs, test, swarms, steps: Math.ceil(steps / epochs) });
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = error.exitCode;
}
process.exit();
