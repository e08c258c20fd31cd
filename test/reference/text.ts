/** Compares tokenizer, greedy generation and loss with what make_text_reference.py found for a real model. */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { openDataset } from '../../node/data/dataset.js';
import { openTokenizer } from '../../node/data/tokenizer.js';
import { ortExecutor } from '../../node/engine/ort.js';
import { openLanguageModel } from '../../node/model/language-model.js';
import type { ModelToOpen } from '../../node/model/load.js';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { openNextTokenModel } from '../../node/model/next-token-model.js';
import { evaluate } from '../../node/train/evaluate.js';
import { promptTokens } from '../../node/train/generate.js';
import { likeliest } from '../../node/train/sampling.js';
import { adapterLayout } from '../../protocol/adapter.js';

const ids = z.array(z.int());
const reference = z.object({
  prompts: z.array(z.object({ text: z.string(), ids, greedy: ids, margin: z.number() })),
  data: z.object({ tokens: z.int(), loss: z.number() }),
});

/** What was found, beside what was expected. */
export interface TextComparison {
  prompts: {
    text: string;
    /** Whether the tokenizer gives the same ids. */
    sameIds: boolean;
    /** Tokens that greedy decoding wrote, and how many of them are the reference's, from the first on. */
    written: number;
    same: number;
    /** Smallest difference, in the reference, of the largest logit to the second largest. */
    margin: number;
  }[];
  tokens: { actual: number; expected: number };
  /** Nats per trained token. */
  loss: { actual: number; expected: number };
}

/** Nats per trained token by which the loss may differ. */
export const LOSS_BOUND = 1e-3;

/** Largest example of the data, in tokens: the reference reads each whole. */
const SEQUENCE_LENGTH = 512;

/** `file`: what make_text_reference.py wrote about the model in `modelDir` and the examples of `data`. */
export async function compareText(
  modelDir: string,
  data: string,
  file: string,
): Promise<TextComparison> {
  const { prompts, data: expected } = reference.parse(JSON.parse(await readFile(file, 'utf8')));
  const { dir, config, weights } = await openModelDirectory(modelDir);
  const modules = loraModules(config, ['all-linear']).slice(0, 1);
  const adapter = { rank: 1, alpha: 1, modules };
  const executor = ortExecutor({ threads: availableParallelism() });
  const opened = { config, weights, adapter, executor };
  const { tokens, loss } = await evaluateFile(dir, opened, data);
  return {
    prompts: await comparePrompts(dir, opened, prompts),
    tokens: { actual: tokens, expected: expected.tokens },
    loss: { actual: loss ?? NaN, expected: expected.loss },
  };
}

/** As murmurate eval does it. */
async function evaluateFile(
  dir: string,
  opened: ModelToOpen,
  file: string,
): Promise<{ tokens: number; loss: number | null }> {
  const shape = { batchSize: 1, sequenceLength: SEQUENCE_LENGTH };
  const model = await openLanguageModel({ ...opened, ...shape });
  try {
    const dataset = await openDataset([file], {
      tokenizer: await openTokenizer(dir, opened.config),
      chatTemplate: null,
      sequenceLength: SEQUENCE_LENGTH,
      heldOutShare: 0,
      seed: new Uint8Array(32),
    });
    if (dataset.stats.cutExamples > 0) {
      throw new RangeError(`${file}: an example has more than ${SEQUENCE_LENGTH} tokens`);
    }
    const measured = await evaluate(
      { model, batchSize: 1, datasets: [dataset], thetas: [zeroAdapter(opened)] },
      () => undefined,
      new AbortController().signal,
    );
    return { tokens: measured[0]!.tokens, loss: measured[0]!.losses[0]! };
  } finally {
    await model.dispose();
  }
}

/** As murmurate generate does it, but on beyond the end of a text. */
async function comparePrompts(
  dir: string,
  opened: ModelToOpen,
  prompts: z.infer<typeof reference>['prompts'],
): Promise<TextComparison['prompts']> {
  const tokenizer = await openTokenizer(dir, opened.config);
  const capacity = Math.max(...prompts.map((prompt) => prompt.ids.length + prompt.greedy.length));
  const theta = zeroAdapter(opened);
  const model = await openNextTokenModel({ ...opened, theta, capacity, chunk: 4 });
  try {
    const compared: TextComparison['prompts'] = [];
    for (const { text, ids, greedy, margin } of prompts) {
      const prompt = promptTokens(tokenizer, text);
      model.forget();
      const written = [likeliest(await model.read(prompt))];
      while (written.length < greedy.length) {
        written.push(likeliest(await model.read(written.slice(-1))));
      }
      const other = written.findIndex((token, i) => token !== greedy[i]);
      compared.push({
        text,
        sameIds: prompt.join() === ids.join(),
        written: written.length,
        same: other < 0 ? written.length : other,
        margin,
      });
    }
    return compared;
  } finally {
    await model.dispose();
  }
}

function zeroAdapter({ adapter }: ModelToOpen): Float32Array {
  return new Float32Array(adapterLayout(adapter).size);
}
