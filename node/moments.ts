/** Moments that lie in this process, as those that lie elsewhere are handed on: see Moments in interfaces.ts. */
import type { Moments, OptimiserState } from './interfaces.js';

/** Those of one optimiser in this process. Nobody writes to them any more. */
export class HeldMoments implements Moments {
  constructor(readonly state: OptimiserState) {}

  get step(): number {
    return this.state.step;
  }

  get size(): number {
    return this.state.m.length;
  }

  get isThere(): boolean {
    return true;
  }

  async *pieces(): AsyncGenerator<Float32Array> {
    yield this.state.m;
    yield this.state.v;
  }
}
