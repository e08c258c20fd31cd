/** Live progress on stderr: a bar where a person watches, a line an epoch elsewhere. */
import { MultiBar, type SingleBar } from 'cli-progress';
import { Writable } from 'node:stream';
import type { StatusReport } from '../status.js';
import type { VerbIo } from './verb.js';
import { printable } from '../printable.js';
import { printableOutput, rawOutput } from './output.js';

/** Shows the state of one peer; `log` is where the logger writes, so that lines do not break the bar. */
export interface Progress {
  readonly log: Writable;
  update(report: StatusReport): void;
  stop(): void;
}

export function createProgress(io: Pick<VerbIo, 'stderr' | 'terminal'>): Progress {
  return io.terminal ? new BarProgress(io.stderr) : new LineProgress(io.stderr);
}

class BarProgress implements Progress {
  readonly log: Writable;
  readonly #bars: MultiBar;
  readonly #news = new AttentionNews();
  #bar: SingleBar | null = null;

  constructor(out: Writable) {
    this.#bars = new MultiBar({
      stream: rawOutput(out),
      format: 'epoch {value}/{total} [{bar}] {facts}',
      barsize: 24,
      hideCursor: true,
      // Signals are handled by main.ts alone.
      gracefulExit: false,
    });
    this.log = printableOutput(
      new Writable({
        write: (chunk: Buffer, _encoding, done) => {
          if (this.#bar === null) rawOutput(out).write(chunk);
          else this.#bars.log(chunk.toString());
          done();
        },
      }),
    );
  }

  update(report: StatusReport): void {
    const { epochsMax } = report.run;
    const epoch = Math.min(epochsMax, Math.max(0, report.run.epoch));
    this.#bar ??= this.#bars.create(epochsMax, epoch, { facts: '' });
    for (const sentence of this.#news.of(report))
      this.#bars.log(`attention: ${printable(sentence)}\n`);
    this.#bar.update(epoch, { facts: `${report.run.state}: ${facts(report)}` });
  }

  stop(): void {
    if (this.#bar === null) return;
    // Lines that wait for the next redraw would be lost.
    this.#bars.update();
    this.#bars.stop();
    this.#bar = null;
  }
}

class LineProgress implements Progress {
  readonly log: Writable;
  readonly #out: Writable;
  /** Epoch and state of the last line; the end of an epoch and of the run are worth one. */
  #shown = '';
  readonly #news = new AttentionNews();

  constructor(out: Writable) {
    this.log = out;
    this.#out = out;
  }

  update(report: StatusReport): void {
    const { epoch, epochsMax, state } = report.run;
    const shown = `${epoch} ${state === 'finished' ? state : ''}`;
    if (shown !== this.#shown && epoch >= 0) {
      this.#shown = shown;
      const at = Math.min(epoch, epochsMax);
      this.#out.write(`epoch ${at}/${epochsMax} ${state}: ${facts(report)}\n`);
    }
    for (const sentence of this.#news.of(report)) this.#out.write(`attention: ${sentence}\n`);
  }

  stop(): void {
    // Lines need no ending.
  }
}

/** Tells the sentences of `attention` that did not stand before. */
class AttentionNews {
  /** Without their numbers: seconds that count down are no news. */
  #standing = new Set<string>();

  of({ attention }: StatusReport): string[] {
    const standing = new Map(
      attention.map((sentence) => [sentence.replaceAll(/[\d.]+/g, ''), sentence]),
    );
    const news = [...standing].filter(([words]) => !this.#standing.has(words));
    this.#standing = new Set(standing.keys());
    return news.map(([, sentence]) => sentence);
  }
}

/** E.g. "step 120, loss 2.871, held-out 3.012 (base 4.250), 33 updates, 2 peers". */
function facts({ training, heldOutLoss, adapter, peers }: StatusReport): string {
  const connected = peers.filter((peer) => peer.address !== null).length;
  const parts = [
    `step ${training.step}`,
    training.loss === null ? null : `loss ${training.loss.toFixed(3)}`,
    heldOutLoss.now === null || heldOutLoss.base === null
      ? null
      : `held-out ${heldOutLoss.now.toFixed(3)} (base ${heldOutLoss.base.toFixed(3)})`,
    `${adapter.updates} ${adapter.updates === 1 ? 'update' : 'updates'}`,
    `${connected} ${connected === 1 ? 'peer' : 'peers'}`,
  ];
  return parts.filter((part) => part !== null).join(', ');
}
