/**
 * The two sides of the comparison are processes that take turns, so that a busy moment of the machine hits
 * both. Each is told lines on stdin and answers one JSON line each: {"steps": n} -> {"ms", "loss"} of n
 * optimiser steps; {"end": true} -> {"peakBytes"}, and it ends.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

/** What both sides train: LoRA of this rank on all linear layers, the batch always the same. */
export interface Workload {
  readonly model: string;
  readonly batch: number;
  readonly length: number;
  readonly rank: number;
  readonly threads: number;
  /** fp32; int8 (ours), or bf16 by PyTorch's autocast. */
  readonly precision: string;
}

/** Of `steps` steps: their time, and the loss of the last in nats per token. */
export interface Turn {
  readonly ms: number;
  readonly loss: number;
}

/** One side, running. */
export class Side {
  private readonly answers: AsyncIterator<string>;

  constructor(
    readonly name: string,
    private readonly process: ChildProcess,
  ) {
    if (process.stdout === null) throw new TypeError(`${name} must have a pipe for its answers`);
    this.answers = createInterface({ input: process.stdout })[Symbol.asyncIterator]();
  }

  async train(steps: number): Promise<Turn> {
    return (await this.ask({ steps })) as Turn;
  }

  /** Largest resident memory of its life, in bytes. The process ends. */
  async end(): Promise<number> {
    return ((await this.ask({ end: true })) as { peakBytes: number }).peakBytes;
  }

  kill(): void {
    this.process.kill();
  }

  private async ask(question: object): Promise<unknown> {
    this.process.stdin?.write(`${JSON.stringify(question)}\n`);
    const answer = await this.answers.next();
    if (answer.done === true) throw new Error(`${this.name} ended without an answer`);
    return JSON.parse(answer.value);
  }
}

/** Starts a side: `command` with the workload as one JSON argument. */
export function startSide(
  name: string,
  command: readonly string[],
  workload: Workload,
  env: NodeJS.ProcessEnv = process.env,
): Side {
  const [program = '', ...args] = command;
  const child = spawn(program, [...args, JSON.stringify(workload)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env,
  });
  return new Side(name, child);
}
