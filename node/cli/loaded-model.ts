/** A base model in memory, once, with and without its adapter: what chat, serve and --compare write with. */
import { availableParallelism } from 'node:os';
import { openChatTemplate } from '../data/chat-template.js';
import {
  PLAIN_FORMAT,
  plainFormat,
  templateFormat,
  type ConversationFormat,
} from '../data/conversation.js';
import { readGenerationEnds } from '../data/generation-config.js';
import { openTokenizer, type Tokenizer } from '../data/tokenizer.js';
import type { NextTokenModel } from '../model/next-token-model.js';
import { RememberingModel } from '../train/remembering-model.js';
import { openDevice, type ChosenModel, type ComputingChoice } from './chosen-model.js';
import { chunkOf, openReaders, readersProgram } from './readers.js';
import type { VerbIo } from './verb.js';

/** Tokens of a conversation where nothing else is asked for: each step computes over all of them. */
const CONTEXT_TOKENS = 2048;
/** Tokens that go through the model at once: conversations are read in long pieces and written one by one. */
const CHUNK = 4;

export interface LoadedModel {
  readonly tokenizer: Tokenizer;
  readonly format: ConversationFormat;
  /** Tokens that end a text, beside those of tokenizer and config. */
  readonly ends: readonly number[];
  /** Tokens that fit. */
  readonly capacity: number;
  readonly base: NextTokenModel;
  /** With the adapter, or the mixture; null for the base model alone. */
  readonly adapted: NextTokenModel | null;
  /** As `adapted`, with other values of the swarm's adapter: [adapterSize] float32. */
  withAdapter(theta: Float32Array): NextTokenModel;
  dispose(): Promise<void>;
}

/** Throws UserError: a model, template or --format that cannot be used, or a model that does not fit into memory. */
export async function loadModel(
  chosen: ChosenModel,
  options: ComputingChoice & { context: number | null; format: string | null },
  doing: string,
  io: VerbIo,
): Promise<LoadedModel> {
  const { dir, config, theta, source } = chosen;
  const tokenizer = await openTokenizer(dir, config);
  const format = await openFormat(dir, options.format, tokenizer);
  const capacity = options.context ?? Math.min(CONTEXT_TOKENS, config.maxPositions);
  const { ready } = await openDevice(chosen, options, availableParallelism(), io);
  const shape = { capacity, chunk: chunkOf(chosen, CHUNK) };
  const model = await ready((one) => readersProgram(chosen, { ...one, ...shape }), {
    doing,
    remedy: 'give a smaller --context,',
  });
  const readers = await openReaders(chosen, { ...model, ...shape });
  const withAdapter = (values: Float32Array): NextTokenModel =>
    new RememberingModel(readers.adapted(values));
  return {
    tokenizer,
    format,
    ends: await readGenerationEnds(dir),
    capacity,
    base: new RememberingModel(readers.base()),
    adapted: source === 'none' ? null : withAdapter(theta),
    withAdapter,
    dispose: () => readers.dispose(),
  };
}

async function openFormat(
  dir: string,
  asked: string | null,
  tokenizer: Tokenizer,
): Promise<ConversationFormat> {
  if (asked !== null) return plainFormat(asked, tokenizer);
  const template = await openChatTemplate(dir);
  return template === null
    ? plainFormat(PLAIN_FORMAT, tokenizer)
    : templateFormat(template, tokenizer);
}
