/** How the two kinds of answers of the OpenAI API differ. */
import type { Written } from './engine.js';

type Finish = Written['finish'] | null;

export interface AnswerFormat {
  readonly idPrefix: string;
  /** "object" of a whole answer, and of a piece of one. */
  readonly object: string;
  readonly chunkObject: string;
  /** Begins a stream; null where nothing does. */
  readonly firstDelta: object | null;
  /** The whole answer. */
  choice(text: string, finish: Finish): object;
  /** A piece of it; the last one has a `finish`, and no text. */
  delta(text: string, finish: Finish): object;
}

export const chatAnswer: AnswerFormat = {
  idPrefix: 'chatcmpl',
  object: 'chat.completion',
  chunkObject: 'chat.completion.chunk',
  firstDelta: {
    index: 0,
    delta: { role: 'assistant', content: '' },
    logprobs: null,
    finish_reason: null,
  },
  choice: (content, finish) => ({
    index: 0,
    message: { role: 'assistant', content, refusal: null },
    logprobs: null,
    finish_reason: finish,
  }),
  delta: (content, finish) => ({
    index: 0,
    delta: finish === null ? { content } : {},
    logprobs: null,
    finish_reason: finish,
  }),
};

const completionChoice = (text: string, finish: Finish): object => ({
  index: 0,
  text,
  logprobs: null,
  finish_reason: finish,
});

export const completionAnswer: AnswerFormat = {
  idPrefix: 'cmpl',
  object: 'text_completion',
  chunkObject: 'text_completion',
  firstDelta: null,
  choice: completionChoice,
  delta: completionChoice,
};
