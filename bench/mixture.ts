/**
 * What a mixture of three experts costs against one adapter: processor time per token that is written and per token of
 * a prompt, both sides in turn in one process, on random adapters.
 *   npm run bench:mixture -- [--model DIR] [--weights fp32,bf16] [--rank 8] [--context 256] [--rounds 7]
 */
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { ortExecutor } from '../node/engine/ort.js';
import { cacheDirectoryOf } from '../node/hub/endpoint.js';
import { loraModules } from '../node/model/lora.js';
import { openMixtureModel } from '../node/model/mixture-model.js';
import { openModelDirectory } from '../node/model/model-directory.js';
import { openNextTokenModel, type NextTokenModel } from '../node/model/next-token-model.js';
import { openPackedWeights } from '../node/model/packed/open.js';
import { WEIGHT_FORMATS } from '../node/model/weight-format.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../node/version.js';
import { adapterLayout } from '../protocol/adapter.js';
import { Prng } from '../protocol/prng.js';

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: EMBEDDED_MODEL_DIRECTORY },
    weights: { type: 'string', default: 'fp32' },
    rank: { type: 'string', default: '8' },
    /** Tokens of the prompt, and twice as many places. */
    context: { type: 'string', default: '128' },
    written: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '7' },
    chunks: { type: 'string', default: '1,4,8' },
    threads: { type: 'string', default: '1' },
  },
});
const [rank, context, written, rounds, threads] = [
  ...[values.rank, values.context, values.written, values.rounds, values.threads],
].map(Number) as [number, number, number, number, number];
const random = new Prng(new Uint8Array(32), 'bench mixture');
const directory = await openModelDirectory(values.model);
const { config } = directory;
const adapter = { rank, alpha: 2 * rank, modules: loraModules(config, ['all-linear']) };
const { size } = adapterLayout(adapter);
const thetas = [0, 1, 2].map(() =>
  Float32Array.from({ length: size }, () => 0.02 * (random.nextFloat() - 0.5)),
);
const prompt = Array.from({ length: context }, () => random.nextBelow(config.vocabSize));
const answer = Array.from({ length: written }, () => random.nextBelow(config.vocabSize));

/** Of this process, all threads, in ms: other programs take the clock's time. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** ms of the processor per token of the prompt and per token after it. */
async function pass(model: NextTokenModel): Promise<[number, number]> {
  model.forget();
  const start = cpuMs();
  await model.read(prompt);
  const middle = cpuMs();
  for (const token of answer) await model.read([token]);
  return [(middle - start) / context, (cpuMs() - middle) / written];
}

const table = new Table({
  head: ['weights', 'tokens in a run', '', 'one adapter, ms', 'mixture, ms', 'ratio'],
  style: { head: [], border: [], compact: true },
});
const best = (times: readonly number[]): number => Math.min(...times);

for (const name of values.weights.split(',')) {
  const format = WEIGHT_FORMATS.find((one) => one === name);
  if (format === undefined)
    throw new RangeError(`--weights ${name}: not one of ${WEIGHT_FORMATS.join(', ')}`);
  const signal = new AbortController().signal;
  const weights = await openPackedWeights({
    ...{ directory, format, signal, cacheDir: cacheDirectoryOf(process.env) },
    ...{ onProgress: () => undefined, say: (text) => void process.stderr.write(`${text}\n`) },
  });
  for (const chunk of values.chunks.split(',').map(Number)) {
    const executor = ortExecutor({ threads });
    const options = { config, weights, adapter, executor, weightFormat: format, chunk };
    const shape = { ...options, capacity: context + written };
    const one = await openNextTokenModel({ ...shape, theta: thetas[0] ?? new Float32Array(size) });
    const mixture = await openMixtureModel({ ...shape, thetas });
    const times: [number, number][][] = [[], []];
    for (let round = 0; round <= rounds; round++) {
      for (const [i, model] of [one, mixture].entries()) {
        const taken = await pass(model);
        // The first one warms up.
        if (round > 0) times[i]?.push(taken);
      }
    }
    for (const [part, what] of ['prompt', 'written'].entries()) {
      const [single = NaN, three = NaN] = times.map((own) =>
        best(own.map((row) => row[part] ?? NaN)),
      );
      table.push([
        name,
        chunk,
        what,
        single.toFixed(2),
        three.toFixed(2),
        (three / single).toFixed(2),
      ]);
    }
    await one.dispose();
    await mixture.dispose();
  }
}
process.stdout.write(
  `${table.toString()}\nms of the processor, least of ${rounds} rounds in turn, ${threads} threads\n`,
);
process.exit(0);
