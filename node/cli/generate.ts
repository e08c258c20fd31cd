/** murmurate generate: how the model goes on with a prompt, with the swarm's adapter or without. */
import { availableParallelism } from 'node:os';
import { createHash } from 'node:crypto';
import { integer, option, real, text } from '../config.js';
import { openTokenizer } from '../data/tokenizer.js';
import { chunkFor, openNextTokenModel } from '../model/next-token-model.js';
import { generate, promptTokens } from '../train/generate.js';
import { chooseModel, modelOptions, openDevice } from './chosen-model.js';
import { defineVerb } from './verb.js';

const PURPOSE = { doing: 'generating', remedy: 'give a smaller --context or --max-tokens,' };

export const generateVerb = defineVerb({
  name: 'generate',
  summary: "Continue a prompt with the base model and the swarm's adapter.",
  args: [{ name: 'PROMPT', help: 'used as it is', required: true }],
  options: {
    ...modelOptions,
    maxTokens: option(integer('N', 1, 4096), 64, 'most tokens to write'),
    context: option(
      integer('TOKENS', 2, 1 << 17),
      null,
      'most tokens to remember; of a longer text the end is read again',
      "prompt and new tokens, up to the model's positions",
    ),
    temperature: option(real('X', 0, 10), 0, '0 takes the likeliest token, above 0 draws'),
    seed: option(text('TEXT'), 'murmurate', 'of the draws: the same text again for the same seed'),
  },
  example: `
$ murmurate generate "Question: Who keeps the spare keys?
Answer:"
 Mrs Okafor at the front desk.`,
  run: async ({ args: [prompt], options, given, io }) => {
    const chosen = await chooseModel({ options, given, io });
    const { config } = chosen;
    const tokenizer = await openTokenizer(chosen.dir, config);
    const ids = promptTokens(tokenizer, prompt ?? '');
    const needed = Math.min(ids.length + options.maxTokens, config.maxPositions);
    const { executor, sayMemory } = await openDevice(options.device, availableParallelism(), io);
    const model = await openNextTokenModel({
      ...chosen,
      executor,
      onProgram: (program) => sayMemory(program, PURPOSE),
      capacity: options.context ?? needed,
      chunk: chunkFor(ids.length, options.maxTokens),
    });
    try {
      await generate(
        model,
        tokenizer,
        {
          prompt: ids,
          tokensMax: options.maxTokens,
          temperature: options.temperature,
          seed: new Uint8Array(createHash('sha256').update(options.seed).digest()),
        },
        (piece) => io.stdout.write(piece),
        io.signal,
      );
      io.stdout.write('\n');
    } finally {
      await model.dispose();
    }
  },
});
