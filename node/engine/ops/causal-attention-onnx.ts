/**
 * Attention in blocks as ONNX: a Loop over the blocks, the last block first, so that the arena's first buffers are its
 * largest. A step reads the keys that its queries see and no others: neither those behind them nor those of other texts
 * in the row. Where a device has no Loop, the blocks are written out one by one, with all keys that a query may see.
 */
import type { Attributes, OnnxContext, OnnxEmitter } from '../operation.js';
import { MASKED, type AttentionPlan } from './causal-attention-plan.js';

/** TensorProto.DataType. */
const [INT32, INT64] = [6, 7];
/** Blocks at most where they are written out: each node takes memory of its own. */
const WRITTEN_OUT_MAX = 16;
/** [B, T, heads, D] to [B, heads, T, D] and back. */
const SWAP_HEADS = { attributes: { perm: { ints: [0, 2, 1, 3] } } } as const;

/** Emits softmax(alpha q k^T) v: [B, T, heads D]. */
export function writeAttention<A extends Attributes>(
  { emit, names, outputName }: OnnxContext<A>,
  plan: AttentionPlan,
): void {
  const [q, k, v, positions] = names as [string, string, string, string];
  const writer = new BlockWriter(emit, plan, { q, k, v, positions, others: [] });
  writer.eachBlock([], outputName, (block) => ({ row: writer.context(block), state: [] }));
}

/** Emits d loss / d q, k and v side by side: [B, T, (heads + 2 keyValueHeads) D]. */
export function writeAttentionGradient<A extends Attributes>(
  { emit, names, outputName }: OnnxContext<A>,
  plan: AttentionPlan,
): void {
  const [q, k, v, positions, ...others] = names as [string, string, string, string, ...string[]];
  const { B, T, keyValueHeads, D, alpha } = plan;
  const writer = new BlockWriter(emit, plan, { q, k, v, positions, others });
  const zeros = emit.node('Expand', [emit.float(0), emit.int64([B, keyValueHeads, T, D])]);
  const { row, state } = writer.eachBlock([zeros, zeros], undefined, (block, sums) =>
    writer.gradient(block, sums),
  );
  const [ofKeys, ofValues] = state as [string, string];
  const sums = [emit.node('Mul', [ofKeys, emit.float(alpha)]), ofValues].map((sum) =>
    emit.node('Reshape', [
      emit.node('Transpose', [sum], SWAP_HEADS),
      emit.int64([B, T, keyValueHeads * D]),
    ]),
  );
  emit.node('Concat', [row, ...sums], {
    output: outputName,
    attributes: { axis: { int: 2 } },
  });
}

/** What a layer reads: q and others [B, T, heads D], k and v [B, T, keyValueHeads D], positions [B, T] int32. */
interface Operands {
  readonly q: string;
  readonly k: string;
  readonly v: string;
  readonly positions: string;
  readonly others: readonly string[];
}

/** The queries `from` to below `to`, which see keys from `first` to below `end`: [1] int64 each. */
interface Block {
  readonly from: string;
  readonly to: string;
  readonly first: string;
  readonly end: string;
  /** Queries. */
  readonly rows: number;
  /** What must be there before its scores are, where nodes are not in steps anyway. */
  readonly earlier: readonly string[];
}

/** row: [B, rows, heads D]; state: sums over keys, [B, keyValueHeads, T, D] each. */
interface BlockResult {
  readonly row: string;
  readonly state: readonly string[];
}

/** queries, probabilities: [B, keyValueHeads, group rows, D or keys]; keys, values: [B, keyValueHeads, keys, D]. */
interface BlockScores {
  readonly queries: string;
  readonly keys: string;
  readonly values: string;
  readonly probabilities: string;
  /** Adds what the gradient by bounded scores is multiplied with; null where they are not bounded. */
  readonly slopes: (() => string) | null;
}

class BlockWriter {
  private readonly count: number;
  private readonly rows: number;
  /** Queries, and what lies as they do: [B, count rows, heads D]. */
  private readonly queries: readonly string[];
  /** [B, keyValueHeads, T, D] each; keys are scaled, of which there are fewer than queries. */
  private readonly keys: string;
  private readonly values: string;
  /** The numbers of all queries and keys: int32 [count rows] and [T]. */
  private readonly queryPlaces: string;
  private readonly keyPlaces: string;
  /** One before the first key that each query sees: [B, count rows] int32. */
  private readonly before: string;

  constructor(
    private readonly emit: OnnxEmitter,
    private readonly plan: AttentionPlan,
    { q, k, v, positions, others }: Operands,
  ) {
    const { B, T, keyValueHeads, D, alpha, window } = plan;
    this.count = emit.loop === undefined ? Math.min(plan.count, WRITTEN_OUT_MAX) : plan.count;
    this.rows = Math.ceil(T / this.count);
    this.queries = [q, ...others].map((one) => this.padded(one, 3));
    const [keys, values] = [k, v].map((one) =>
      emit.node(
        'Transpose',
        [emit.node('Reshape', [one, emit.int64([B, T, keyValueHeads, D])])],
        SWAP_HEADS,
      ),
    ) as [string, string];
    this.keys = emit.node('Mul', [keys, emit.float(alpha)]);
    this.values = values;
    this.keyPlaces = this.integers(Array.from({ length: T }, (_, i) => i));
    this.queryPlaces = this.integers(Array.from({ length: T + this.padding }, (_, i) => i));
    const most = this.integers([window - 1]);
    const near =
      window === 0
        ? positions
        : emit.node('Where', [emit.node('Less', [positions, most]), positions, most]);
    const reach = emit.node('Add', [this.padded(near, 2), this.integers([1])]);
    this.before = emit.node('Sub', [this.queryPlaces, reach]);
  }

  /** Steps of a Loop are all alike: where the last block is shorter, it has rows of zeros. */
  private get padding(): number {
    return this.emit.loop === undefined ? 0 : this.count * this.rows - this.plan.T;
  }

  private padded(name: string, axes: number): string {
    if (this.padding === 0) return name;
    const pads = Array.from({ length: 2 * axes }, (_, i) => (i === axes + 1 ? this.padding : 0));
    return this.emit.node('Pad', [name, this.emit.int64(pads)]);
  }

  private integers(values: readonly number[]): string {
    const { emit } = this;
    return emit.node('Cast', [emit.int64(values)], { attributes: { to: { int: INT32 } } });
  }

  /**
   * What `body` makes of each block: the rows of all of them, [B, T, heads D] (called `output` where it is given), and
   * the state that goes from block to block.
   */
  eachBlock(
    state: readonly string[],
    output: string | undefined,
    body: (block: Block, state: readonly string[]) => BlockResult,
  ): BlockResult {
    const { emit, count, rows } = this;
    const { B, T, keyValueHeads, heads, D } = this.plan;
    const named = output === undefined ? {} : { output };
    if (emit.loop === undefined) return this.writtenOut(state, named, body);
    const shape = [B, keyValueHeads, T, D];
    const results = emit.loop(
      count,
      state.map((name) => ({ name, shape })),
      (step, carried) => {
        const result = body(this.blockOf(step), carried);
        return { state: result.state, row: { name: result.row, shape: [B, rows, heads * D] } };
      },
    );
    const order = emit.int64(Array.from({ length: count }, (_, i) => count - 1 - i));
    let row = emit.node('Gather', [results.rows, order], { attributes: { axis: { int: 0 } } });
    if (B > 1) {
      row = emit.node('Transpose', [row], { attributes: { perm: { ints: [1, 0, 2, 3] } } });
    }
    const joined = emit.int64([B, count * rows, heads * D]);
    if (this.padding === 0) row = emit.node('Reshape', [row, joined], named);
    else {
      const range = [[0], [T], [1]].map((one) => emit.int64(one));
      row = emit.node('Slice', [emit.node('Reshape', [row, joined]), ...range], named);
    }
    return { row, state: results.state };
  }

  private writtenOut(
    state: readonly string[],
    named: { readonly output?: string },
    body: (block: Block, state: readonly string[]) => BlockResult,
  ): BlockResult {
    const { T, window } = this.plan;
    const parts: string[] = [];
    for (let i = 0; i < this.count; i++) {
      const [start, stop] = [i * this.rows, Math.min(T, (i + 1) * this.rows)];
      const seen = window === 0 ? 0 : Math.max(0, start + 1 - window);
      const [from, to, first] = [start, stop, seen].map((place) => this.emit.int64([place])) as [
        ...[string, string, string],
      ];
      // Else the probabilities of all blocks might be computed before the first ones are used.
      const earlier = state.length > 0 && i > 0 ? [...state, parts.at(-1)!] : [];
      const result = body({ from, to, first, end: to, rows: stop - start, earlier }, state);
      parts.push(result.row);
      state = result.state;
    }
    const row = this.emit.node('Concat', parts, { ...named, attributes: { axis: { int: 1 } } });
    return { row, state };
  }

  /** The block of a step, with the keys that its queries do see. `step`: int64 without dimensions. */
  private blockOf(step: string): Block {
    const { emit, rows, count } = this;
    const number = emit.node('Sub', [emit.int64([count - 1]), step]);
    const from = emit.node('Mul', [number, emit.int64([rows])]);
    const to = emit.node('Add', [from, emit.int64([rows])]);
    const last = emit.node('ReduceMin', [this.slice(this.before, 1, from, to)], {
      attributes: { keepdims: { int: 0 } },
    });
    const next = emit.node('Add', [
      emit.node('Cast', [last], { attributes: { to: { int: INT64 } } }),
      emit.int64([1]),
    ]);
    const first = emit.node('Max', [next, emit.int64([0])]);
    const end = emit.node('Min', [to, emit.int64([this.plan.T])]);
    return { from, to, first, end, rows, earlier: [] };
  }

  /** [B, rows, heads D]. */
  context(block: Block): string {
    const { probabilities, values } = this.scores(block);
    return this.perToken(this.product(probabilities, values), block);
  }

  /** `sums`: of the gradients by keys and by values; the row is the gradient by the queries. */
  gradient(block: Block, sums: readonly string[]): BlockResult {
    const { emit } = this;
    const { queries, keys, values, probabilities, slopes } = this.scores(block);
    const [, context, upstream] = this.queries.map((one) => this.perHead(one, block)) as [
      ...[string, string, string],
    ];
    const mean = emit.node('ReduceSum', [emit.node('Mul', [upstream, context]), emit.int64([-1])]);
    const slope = emit.node('Sub', [this.product(upstream, values, { transB: true }), mean]);
    const bounded = emit.node('Mul', [probabilities, slope]);
    const ofScores = slopes === null ? bounded : emit.node('Mul', [bounded, slopes()]);
    const parts = [
      this.product(ofScores, queries, { transA: true }),
      this.product(probabilities, upstream, { transA: true }),
    ];
    const zero = emit.int64([0]);
    const behind = emit.node('Sub', [emit.int64([this.plan.T]), block.end]);
    const pads = emit.node('Concat', [zero, zero, block.first, zero, zero, zero, behind, zero], {
      attributes: { axis: { int: 0 } },
    });
    return {
      row: this.perToken(this.product(ofScores, keys), block),
      state: sums.map((sum, i) => emit.node('Add', [sum, emit.node('Pad', [parts[i]!, pads])])),
    };
  }

  private scores(block: Block): BlockScores {
    const { emit } = this;
    const { B, heads, keyValueHeads, group, cap } = this.plan;
    const own = this.perHead(this.queries[0]!, block);
    const queries = block.earlier.reduce((sofar, one) => this.after(sofar, one), own);
    const [keys, values] = [this.keys, this.values].map((one) =>
      this.slice(one, 2, block.first, block.end),
    ) as [string, string];
    const free = this.product(queries, keys, { transB: true });
    // cap tanh(score / cap), whose slope is 1 - tanh^2.
    const tanh =
      cap === 0 ? null : emit.node('Tanh', [emit.node('Mul', [free, emit.float(1 / cap)])]);
    const scores = tanh === null ? free : emit.node('Mul', [tanh, emit.float(cap)]);
    const perHead = emit.node('Reshape', [scores, emit.int64([B, heads, block.rows, -1])]);
    const masked = emit.node('Add', [perHead, this.mask(block)]);
    const softmax = emit.node('Softmax', [masked], { attributes: { axis: { int: -1 } } });
    const grouped = emit.int64([B, keyValueHeads, group * block.rows, -1]);
    const probabilities = emit.node('Reshape', [softmax, grouped]);
    const slopes =
      tanh === null
        ? null
        : () => emit.node('Sub', [emit.float(1), emit.node('Mul', [tanh, tanh])]);
    return { queries, keys, values, probabilities, slopes };
  }

  /** 0 where a query sees a key, else MASKED: [B, 1, rows, keys]. */
  private mask(block: Block): string {
    const { emit } = this;
    const column = (name: string, batch: number): string =>
      emit.node('Reshape', [name, emit.int64([batch, 1, block.rows, 1])]);
    const keys = this.slice(this.keyPlaces, 0, block.first, block.end);
    const queries = this.slice(this.queryPlaces, 0, block.from, block.to);
    const before = this.slice(this.before, 1, block.from, block.to);
    const isBehind = emit.node('Less', [column(queries, 1), keys]);
    const isOwn = emit.node('Less', [column(before, this.plan.B), keys]);
    const masked = emit.float(MASKED);
    const causal = emit.node('Where', [isBehind, masked, emit.float(0)]);
    return emit.node('Where', [isOwn, causal, masked]);
  }

  /** [B, count rows, heads D] -> a block of it, the heads of a group one after the other: [B, keyValueHeads, group rows, D]. */
  private perHead(name: string, { from, to, rows }: Block): string {
    const { emit } = this;
    const { B, keyValueHeads, group, D } = this.plan;
    const split = emit.node('Reshape', [
      this.slice(name, 1, from, to),
      emit.int64([B, rows, keyValueHeads, group, D]),
    ]);
    const turned = emit.node('Transpose', [split], {
      attributes: { perm: { ints: [0, 2, 3, 1, 4] } },
    });
    return emit.node('Reshape', [turned, emit.int64([B, keyValueHeads, group * rows, D])]);
  }

  /** The way back: [B, keyValueHeads, group rows, D] -> [B, rows, heads D]. */
  private perToken(name: string, { rows }: Block): string {
    const { emit } = this;
    const { B, keyValueHeads, group, heads, D } = this.plan;
    const split = emit.node('Reshape', [name, emit.int64([B, keyValueHeads, group, rows, D])]);
    const turned = emit.node('Transpose', [split], {
      attributes: { perm: { ints: [0, 3, 1, 2, 4] } },
    });
    return emit.node('Reshape', [turned, emit.int64([B, rows, heads * D])]);
  }

  /** A product of stacks of matrices. */
  private product(
    a: string,
    b: string,
    { transA = false, transB = false }: { transA?: boolean; transB?: boolean } = {},
  ): string {
    const { emit } = this;
    if (emit.loop === undefined) {
      // Not every device without a Loop has FusedMatMul.
      const turned = (name: string, isTurned: boolean): string =>
        isTurned
          ? emit.node('Transpose', [name], { attributes: { perm: { ints: [0, 1, 3, 2] } } })
          : name;
      return emit.node('MatMul', [turned(a, transA), turned(b, transB)]);
    }
    return emit.node('FusedMatMul', [a, b], {
      domain: 'com.microsoft',
      attributes: { transA: { int: Number(transA) }, transB: { int: Number(transB) } },
    });
  }

  /** `value` once `one` is there: nodes have no other order than what they read. */
  private after(value: string, one: string): string {
    const { emit } = this;
    const flat = emit.node('Reshape', [one, emit.int64([-1])]);
    const first = emit.node('Slice', [flat, ...[[0], [1], [0]].map((at) => emit.int64(at))]);
    return emit.node('Add', [value, emit.node('Mul', [first, emit.float(0)])]);
  }

  private slice(name: string, axis: number, from: string, to: string): string {
    return this.emit.node('Slice', [name, from, to, this.emit.int64([axis])]);
  }
}
