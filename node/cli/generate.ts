/** murmurate generate: how the model goes on with a prompt, with the swarm's adapter, without, or both. */
import { availableParallelism } from 'node:os';
import { integer, option } from '../config.js';
import { readGenerationEnds } from '../data/generation-config.js';
import { openTokenizer } from '../data/tokenizer.js';
import { chunkFor, type NextTokenModel } from '../model/next-token-model.js';
import { generate, promptTokens, type GenerateOptions } from '../train/generate.js';
import { chooseModel, modelOptions, nameOf, openDevice } from './chosen-model.js';
import { chunkOf, openReader, openReaders, readersProgram } from './readers.js';
import { twoColumns, wideTerminal, type NamedText } from './two-columns.js';
import { defineVerb } from './verb.js';
import {
  ANSWER_TOKENS_MAX,
  checkCompare,
  compareOption,
  samplingOptions,
  seedOf,
} from './writing-options.js';
import { printable } from '../printable.js';

const PURPOSE = { doing: 'generating', remedy: 'give a smaller --context or --max-tokens,' };

export const generateVerb = defineVerb({
  name: 'generate',
  summary: "Continue a prompt with the base model and the swarm's adapter.",
  args: [{ name: 'PROMPT', help: 'used as it is', required: true }],
  options: {
    ...modelOptions,
    maxTokens: option(integer('N', 1, ANSWER_TOKENS_MAX), 64, 'most tokens to write'),
    context: option(
      integer('TOKENS', 2, 1 << 17),
      null,
      'most tokens to remember; of a longer text the end is read again',
      "prompt and new tokens, up to the model's positions",
    ),
    ...samplingOptions(0),
    ...compareOption,
  },
  example: `
$ murmurate generate "Question: Who keeps the spare keys?
Answer:"
 Mrs Okafor at the front desk.`,
  run: async ({ args: [prompt], options, given, io }) => {
    const chosen = await chooseModel({ options, given, io });
    const { config, theta, source } = chosen;
    checkCompare(options.compare, source);
    const tokenizer = await openTokenizer(chosen.dir, config);
    const ids = promptTokens(tokenizer, prompt ?? '');
    const request: GenerateOptions = {
      prompt: ids,
      tokensMax: options.maxTokens,
      temperature: options.temperature,
      topP: options.topP,
      seed: seedOf(options.seed),
      ends: await readGenerationEnds(chosen.dir),
    };
    const { ready } = await openDevice(chosen, options, availableParallelism(), io);
    const needed = Math.min(ids.length + options.maxTokens, config.maxPositions);
    const shape = {
      capacity: options.context ?? needed,
      chunk: chunkOf(chosen, chunkFor(ids.length, options.maxTokens)),
    };
    const opened = await ready((model) => readersProgram(chosen, { ...model, ...shape }), PURPOSE);
    const toOpen = { ...opened, ...shape };
    const say = (piece: string): unknown => io.stdout.write(printable(piece));
    if (!options.compare) {
      const model = await openReader(chosen, toOpen);
      try {
        await generate(model, tokenizer, request, say, io.signal);
        io.stdout.write('\n');
      } finally {
        await model.dispose();
      }
      return;
    }
    const width = wideTerminal(io.stdout);
    const readers = await openReaders(chosen, toOpen);
    const write = async (name: string, model: NextTokenModel): Promise<NamedText> => {
      if (width === null) say(`${name}:\n`);
      const onText = width === null ? say : (): void => undefined;
      const { text } = await generate(model, tokenizer, request, onText, io.signal);
      if (width === null) say('\n');
      return { name, text };
    };
    try {
      const base = await write('base', readers.base());
      const adapted = await write(nameOf(chosen), readers.adapted(theta));
      if (width !== null) io.stdout.write(twoColumns([base, adapted], width));
    } finally {
      await readers.dispose();
    }
  },
});
