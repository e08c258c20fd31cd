/** What the OpenAI-compatible server needs of a model. */

/** One message of a conversation. */
export interface Message {
  role: 'system' | 'user' | 'assistant';
  content: string;
}

/** What to write. */
export interface WriteRequest {
  /** One of `Engine.models`. */
  model: string;
  /** A conversation to answer, or a text to go on with. */
  prompt: { messages: readonly Message[] } | { text: string };
  /** At most so many tokens; null for as many as fit. */
  tokensMax: number | null;
  /** 0 to 2. */
  temperature: number;
  /** Above 0 to 1. */
  topP: number;
  /** The same text again for the same seed; null for another each time. */
  seed: number | null;
  /** Texts that end the answer and are no part of it. */
  stops: readonly string[];
}

/** What was written. */
export interface Written {
  promptTokens: number;
  tokens: number;
  finish: 'stop' | 'length';
}

export interface Engine {
  /** Ids of the models. */
  readonly models: readonly string[];
  /** What a model is made of at present, e.g. "epoch-29-updates-90". */
  fingerprint(model: string): string;
  /** Throws as `write` does for a prompt that cannot be answered. */
  check(request: WriteRequest): void;
  /**
   * Calls do not overlap. `onText` gets the text in pieces. Throws PromptTooLongError; UserError for a prompt
   * that the model has no place for; `signal.reason`.
   */
  write(
    request: WriteRequest,
    onText: (piece: string) => void,
    signal: AbortSignal,
  ): Promise<Written>;
}

/** A prompt that leaves no room for a token of an answer. */
export class PromptTooLongError extends Error {
  override readonly name = 'PromptTooLongError';

  constructor(promptTokens: number, capacity: number) {
    super(
      `The prompt has ${promptTokens} tokens, but this model's context is ${capacity}: shorten it, or serve with a larger --context.`,
    );
  }
}
