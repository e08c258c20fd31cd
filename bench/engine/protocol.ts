/**
 * The two sides of the comparison are processes that take turns, so that a busy moment of the machine hits
 * both. Each is told lines on stdin and answers one JSON line each: {"steps": n} -> {"ms", "loss"} of n
 * optimiser steps, with "cpuMs" of all their threads; at the end of stdin it ends.
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
  /**
   * Ours: a format of the frozen weights. PyTorch's: fp32, bf16 by autocast, or qlora (bitsandbytes NF4, bf16 compute).
   */
  readonly precision: string;
}

/** Of `steps` steps: their time, the processor time of the process, and the loss of the last in nats per token. */
export interface Turn {
  readonly ms: number;
  readonly cpuMs: number;
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

  get pid(): number {
    if (this.process.pid === undefined) throw new TypeError(`${this.name} could not be started`);
    return this.process.pid;
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
