/** The loaded model as the OpenAI-compatible server sees it: base and adapter under two ids. */
import { randomBytes } from 'node:crypto';
import {
  PromptTooLongError,
  type Engine,
  type Message,
  type WriteRequest,
  type Written,
} from '../http/openai/engine.js';
import type { NextTokenModel } from '../model/next-token-model.js';
import { generate, promptTokens } from '../train/generate.js';
import { adapterUpTo, type AdapterContent } from '../past-adapters.js';
import type { AdapterWatch } from './adapter-watch.js';
import type { LoadedModel } from './loaded-model.js';
import { seedOf } from './writing-options.js';

/** A fold takes a moment: not more often than this, in ms. */
const RELOAD_MS_MIN = 10_000;

export interface ServeEngineInit {
  model: LoadedModel;
  /** Id of the base model. */
  baseId: string;
  /** Id with the adapter, and what is in it; null for the base model alone. */
  adapted: { id: string; fingerprint: string } | null;
  /** Where a newer adapter of the peer shows; null where it is not a swarm's. */
  watch: AdapterWatch | null;
  /** Told when a newer one is taken. */
  onReload: (content: string) => void;
}

export class ServeEngine implements Engine {
  private adapted: NextTokenModel | null;
  private adaptedFingerprint: string;
  private readMs = performance.now();

  constructor(private readonly init: ServeEngineInit) {
    this.adapted = init.model.adapted;
    this.adaptedFingerprint = init.adapted?.fingerprint ?? '';
  }

  get models(): readonly string[] {
    const { baseId, adapted } = this.init;
    return adapted === null ? [baseId] : [baseId, adapted.id];
  }

  fingerprint(model: string): string {
    return model === this.init.adapted?.id ? this.adaptedFingerprint : 'base';
  }

  check({ prompt }: WriteRequest): void {
    const { length } = this.promptOf(prompt);
    const { capacity } = this.init.model;
    if (length >= capacity) throw new PromptTooLongError(length, capacity);
  }

  async write(
    request: WriteRequest,
    onText: (piece: string) => void,
    signal: AbortSignal,
  ): Promise<Written> {
    await this.takeNewer();
    const { tokenizer, format, ends, capacity, base } = this.init.model;
    const isAdapted = request.model === this.init.adapted?.id;
    const model = isAdapted && this.adapted !== null ? this.adapted : base;
    const isChat = 'messages' in request.prompt;
    const prompt = this.promptOf(request.prompt);
    const room = capacity - prompt.length;
    const { seed, temperature, topP } = request;
    let isFirst = isChat;
    const onPiece = (piece: string): void => {
      // An answer after "A:" begins with a space.
      const text = isFirst ? piece.trimStart() : piece;
      if (text === '') return;
      isFirst = false;
      onText(text);
    };
    const written = await generate(
      model,
      tokenizer,
      {
        prompt,
        tokensMax: Math.min(request.tokensMax ?? room, room),
        temperature,
        topP,
        seed: seed === null ? randomBytes(32) : seedOf(String(seed)),
        ends: isChat ? [...ends, ...format.ends] : ends,
        stops: isChat ? [...request.stops, ...format.stops] : request.stops,
      },
      onPiece,
      signal,
    );
    return { promptTokens: prompt.length, tokens: written.tokens, finish: written.finish };
  }

  private promptOf(prompt: { messages: readonly Message[] } | { text: string }): number[] {
    const { tokenizer, format } = this.init.model;
    if ('text' in prompt) return promptTokens(tokenizer, prompt.text);
    return format.prompt(prompt.messages.map(({ role, content }) => ({ role, content })));
  }

  /** The peer in the directory may go on training. */
  private async takeNewer(): Promise<void> {
    const { watch, model, onReload } = this.init;
    if (watch === null || performance.now() - this.readMs < RELOAD_MS_MIN) return;
    this.readMs = performance.now();
    if (!(await watch.isNewer())) return;
    const newest = adapterUpTo(await watch.read(), null);
    this.adapted = model.withAdapter(newest.theta);
    this.adaptedFingerprint = fingerprintOf(newest);
    onReload(this.adaptedFingerprint);
  }
}

/** E.g. "epoch-29-updates-90". */
export function fingerprintOf({ updates, epoch }: AdapterContent): string {
  return `epoch-${epoch}-updates-${updates}`;
}
