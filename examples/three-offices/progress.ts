/** Shows how far the swarm is, on stderr: a bar on a terminal, plain lines elsewhere. */
import cliProgress from 'cli-progress';

import type { PeerStatus } from './status.js';

export interface Progress {
  /** One sentence about what happens next. */
  say(sentence: string): void;
  /** `statuses` in the order of `names`; null for a peer that does not answer. */
  training(names: readonly string[], statuses: readonly (PeerStatus | null)[]): void;
  /** Ends the bar, if there is one. */
  trainingEnded(): void;
}

/** Writes to `stream` (stderr, so that stdout holds results only). */
export function createProgress(stream: NodeJS.WriteStream): Progress {
  return stream.isTTY ? new Bar(stream) : new Lines(stream);
}

class Bar implements Progress {
  readonly #stream: NodeJS.WriteStream;
  #bar: cliProgress.SingleBar | null = null;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  say(sentence: string): void {
    this.#stream.write(`${sentence}\n`);
  }

  training(names: readonly string[], statuses: readonly (PeerStatus | null)[]): void {
    const [done, total] = epochs(statuses);
    if (this.#bar === null) {
      this.#bar = new cliProgress.SingleBar({
        stream: this.#stream,
        format: '[{bar}] epoch {value}/{total}  {peers}',
        barsize: 12,
        hideCursor: true,
        // The demonstration cleans up on SIGINT itself.
        gracefulExit: false,
      });
      this.#bar.start(total, done, { peers: '' });
    }
    this.#bar.setTotal(total);
    this.#bar.update(done, { peers: describePeers(names, statuses) });
  }

  trainingEnded(): void {
    this.#bar?.stop();
    this.#bar = null;
  }
}

class Lines implements Progress {
  readonly #stream: NodeJS.WriteStream;
  #lastDone = -1;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  say(sentence: string): void {
    this.#stream.write(`${sentence}\n`);
  }

  training(names: readonly string[], statuses: readonly (PeerStatus | null)[]): void {
    const [done, total] = epochs(statuses);
    if (done === this.#lastDone) return;
    this.#lastDone = done;
    this.#stream.write(`epoch ${done}/${total}  ${describePeers(names, statuses)}\n`);
  }

  trainingEnded(): void {
    this.#lastDone = -1;
  }
}

/** Whole epochs that are over, and how many there are; [0, 1] before the first answer. */
function epochs(statuses: readonly (PeerStatus | null)[]): [done: number, total: number] {
  const runs = statuses.flatMap((status) => (status === null ? [] : [status.run]));
  const total = runs[0]?.epochsMax ?? 1;
  const epoch = Math.max(0, ...runs.map((run) => run.epoch));
  return [Math.min(epoch, total), total];
}

/** "clinic 4.61 -> 1.09 | ...": each peer's held-out loss, of the base model and now. */
export function describePeers(
  names: readonly string[],
  statuses: readonly (PeerStatus | null)[],
): string {
  return names.map((name, i) => describePeer(name, statuses[i] ?? null)).join(' | ');
}

function describePeer(name: string, status: PeerStatus | null): string {
  if (status === null) return `${name} starting`;
  const { base, now } = status.heldOutLoss;
  if (base === null) return `${name} ${status.run.state}`;
  return `${name} ${base.toFixed(2)}${now === null ? '' : ` -> ${now.toFixed(2)}`}`;
}
