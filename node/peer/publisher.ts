/**
 * Publishes to the run, and notices when that reaches nobody: gossip hands a message to no one without an
 * error. What was last published is then published again, until somebody takes it or the peer is alone.
 */
import type { Clock, Logger, Transport } from '../interfaces.js';

/** Pause before a message that reached nobody is published again, in ms: gossip's heartbeat mends its mesh. */
const RETRY_MS = 1_000;

/** So many times in a row, with members connected, and it is worth a word. */
const WORRY_AFTER = 5;

/** So many times at most: by then the others have the update by sync. */
const TRIES_MAX = 60;

export interface PublisherComponents {
  transport: Transport;
  clock: Clock;
  logger: Logger;
}

export class Publisher {
  readonly #c: PublisherComponents;
  readonly #signal: AbortSignal;
  /** What nobody has taken yet; a newer update takes the place of an older one, which sync brings. */
  #pending: Uint8Array | null = null;
  #isRetrying = false;
  #lastRecipients: number | null = null;
  #published = 0;
  #inVain = 0;

  constructor(components: PublisherComponents, signal: AbortSignal) {
    this.#c = components;
    this.#signal = signal;
  }

  /** Peers that the last update was handed to; null before the first. */
  get lastRecipients(): number | null {
    return this.#lastRecipients;
  }

  /** Own updates since the process started, each counted once. */
  get published(): number {
    return this.#published;
  }

  /** Whether updates reach nobody, again and again, although members are connected. */
  get isUnheard(): boolean {
    return this.#inVain >= WORRY_AFTER;
  }

  /** Publishes this peer's newest update, and again while nobody takes it. Never rejects. */
  async publish(message: Uint8Array): Promise<void> {
    this.#pending = message;
    this.#published++;
    await this.#try();
    void this.#retry();
  }

  /** Tells once, come what may: sync tells too. */
  tell(message: Uint8Array): void {
    this.#c.transport.publish(message).catch((error: unknown) => {
      this.#c.logger.debug({ error: String(error) }, 'publishing failed');
    });
  }

  /** A member connected: it may take what nobody took so far. */
  onConnect(): void {
    void this.#retry();
  }

  async #try(): Promise<void> {
    const message = this.#pending;
    if (message === null) return;
    const { transport, logger } = this.#c;
    const members = transport.connections().length;
    try {
      this.#lastRecipients = await transport.publish(message);
    } catch (error) {
      this.#lastRecipients = 0;
      logger.warn({ error: String(error) }, 'publishing failed');
    }
    if (this.#lastRecipients > 0) {
      this.#inVain = 0;
      if (this.#pending === message) this.#pending = null;
    } else if (members > 0) this.#inVain += 1;
    logger.debug({ recipients: this.#lastRecipients, members }, 'update published');
  }

  /** Tries again while there are members who could take it. */
  async #retry(): Promise<void> {
    if (this.#isRetrying) return;
    this.#isRetrying = true;
    const { transport, clock } = this.#c;
    for (let i = 0; i < TRIES_MAX && this.#pending !== null; i++) {
      await clock.sleep(RETRY_MS, this.#signal).catch(() => undefined);
      if (this.#signal.aborted || transport.connections().length === 0) break;
      await this.#try();
    }
    this.#isRetrying = false;
  }
}
