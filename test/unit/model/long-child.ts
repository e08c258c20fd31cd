/** One step of a small model over a sequence of so many tokens, in a process of its own: prints the most anonymous memory it had. */
import { readFileSync } from 'node:fs';
import { openLanguageModel } from '../../../node/model/language-model.js';
import { openCase, randomTokens } from './small-case.js';

const sequenceLength = Number(process.argv[2]);
const { options, model, theta } = await openCase('llama-gqa-tied', ['all-linear']);
await model.dispose();
const { config } = options;
const long = await openLanguageModel({
  ...options,
  config: { ...config, maxPositions: sequenceLength },
  ...{ batchSize: 1, sequenceLength, memory: 'low' },
});
const tokens = randomTokens(sequenceLength, config.vocabSize);
const batch = { tokens, targets: tokens, segments: new Int32Array(sequenceLength) };
await long.gradient(batch, theta);
// The arena keeps what a run took.
const status = readFileSync('/proc/self/status', 'utf8');
process.stdout.write(String(1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1])));
await long.dispose();
