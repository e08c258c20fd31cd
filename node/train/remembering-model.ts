/** A reader that knows what it holds, so that of a text which begins as the one before only the rest is read. */
import type { ModelConfig } from '../model/config.js';
import type { NextTokenModel } from '../model/next-token-model.js';

/** As `model`; after `forget` it still uses what it has read where the next text begins with the same tokens. */
export class RememberingModel implements NextTokenModel {
  /** What `model` holds. */
  private readonly held: number[] = [];
  length = 0;

  constructor(private readonly model: NextTokenModel) {}

  get config(): ModelConfig {
    return this.model.config;
  }

  get capacity(): number {
    return this.model.capacity;
  }

  async read(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    // The last token is read in any case: the logits after it are asked for.
    const known = Math.min(this.commonLength(tokens), tokens.length - 1);
    const keep = this.length + Math.max(0, known);
    this.model.forget(keep);
    this.held.length = keep;
    try {
      return await this.model.read(tokens.slice(keep - this.length), signal);
    } finally {
      const read = this.model.length - keep;
      this.held.push(...tokens.slice(keep - this.length).slice(0, read));
      this.length = this.held.length;
    }
  }

  forget(keep = 0): void {
    this.length = Math.min(keep, this.length);
  }

  dispose(): Promise<void> {
    return this.model.dispose();
  }

  /** How many of `tokens` are held already, right after the first `length`. */
  private commonLength(tokens: readonly number[]): number {
    let count = 0;
    while (count < tokens.length && this.held[this.length + count] === tokens[count]) count++;
    return count;
  }
}
