/**
 * Carries graphs out with TensorFlow.js, one operation after the other in topological order. A value is
 * freed right after its last use, so that memory peaks where the graph does.
 */
import type * as tensorflow from '@tensorflow/tfjs-core';
import { ExecutorError } from '../errors.js';
import type {
  CompiledGraph,
  Executor,
  Feeds,
  Program,
  RunOptions,
  TensorData,
} from '../executor.js';
import { checkFeeds, checkPlaces, NO_BRIEF_RUN, placed } from '../feeds.js';
import { describeType, sameShape, topologicalOrder, type Source, type Value } from '../graph.js';
import { readWeight } from './weights.js';

/** TensorFlow.js with a backend that is ready. */
export interface TfjsBackend {
  readonly tf: typeof tensorflow;
  /** The name under which the backend is registered. */
  readonly name: string;
  /** For `Executor.device`. */
  readonly device: string;
}

type Tensors = Map<Value, tensorflow.Tensor>;

/** One operation, and what no later one needs. */
interface Step {
  readonly value: Value;
  readonly source: Extract<Source, { kind: 'operation' }>;
  readonly lastUses: readonly Value[];
}

/** The executor of one backend. Its graphs compute in float32 and int32. */
export function tfjsExecutor(backend: TfjsBackend): Executor {
  return { device: backend.device, compile: (program) => compile(backend, program) };
}

async function compile(backend: TfjsBackend, { outputs, brief }: Program): Promise<CompiledGraph> {
  const results = [...Object.values(outputs), ...Object.values(brief ?? {})];
  const order = topologicalOrder(results);
  const inputs = new Map<string, Value>();
  for (const value of order) {
    if (value.source.kind !== 'input') continue;
    const { name } = value.source;
    if (inputs.has(name)) throw new ExecutorError(`two inputs are called "${name}"`);
    inputs.set(name, value);
  }
  for (const value of results) {
    if (value.dtype !== 'bool') continue;
    throw new ExecutorError('an output has type bool, but only float32 and int32 return');
  }
  const plans = { full: plan(outputs), brief: brief === undefined ? null : plan(brief) };
  return new TfjsGraph(backend, inputs, plans, await loadFixed(backend, order));
}

/** One kind of run. */
interface Plan {
  readonly outputs: Program['outputs'];
  readonly steps: readonly Step[];
}

function plan(outputs: Program['outputs']): Plan {
  const results = Object.values(outputs);
  return { outputs, steps: planSteps(topologicalOrder(results), new Set(results)) };
}

/** Outputs are read after the last step, weights and constants outlive the run: neither has a last use. */
function planSteps(order: readonly Value[], outputs: ReadonlySet<Value>): Step[] {
  const needed = new Set(outputs);
  const steps: Step[] = [];
  for (const value of order.toReversed()) {
    const { source } = value;
    if (source.kind !== 'operation') continue;
    const lastUses = [...new Set(source.inputs)].filter((one) => !needed.has(one) && !isFixed(one));
    for (const one of lastUses) needed.add(one);
    steps.push({ value, source, lastUses });
  }
  return steps.reverse();
}

function isFixed({ source }: Value): boolean {
  return source.kind === 'weight' || source.kind === 'constant';
}

/** Weights and constants as tensors. Throws ExecutorError, and then leaves none behind. */
async function loadFixed(backend: TfjsBackend, order: readonly Value[]): Promise<Tensors> {
  const { tf } = backend;
  const fixed: Tensors = new Map();
  try {
    for (const value of order) {
      const { source } = value;
      if (source.kind !== 'weight' && source.kind !== 'constant') continue;
      const data = source.kind === 'weight' ? await readWeight(source.weight) : source.data;
      select(backend);
      const tensor = tf.tensor(data, [...value.shape], value.dtype);
      fixed.set(value, tensor);
      // tfjs-node keeps the array in JavaScript until the tensor is used for the first time.
      const { rank } = tensor;
      if (rank > 0)
        tf.slice(tensor, Array<number>(rank).fill(0), Array<number>(rank).fill(1)).dispose();
    }
  } catch (error) {
    tf.dispose([...fixed.values()]);
    throw failure(error);
  }
  return fixed;
}

/** The backend is a setting of the whole process; once initialised, it changes at once. */
function select({ tf, name }: TfjsBackend): void {
  if (tf.getBackend() !== name) void tf.setBackend(name);
}

class TfjsGraph implements CompiledGraph {
  private fixed: Tensors | null;

  constructor(
    private readonly backend: TfjsBackend,
    readonly inputs: ReadonlyMap<string, Value>,
    private readonly plans: { readonly full: Plan; readonly brief: Plan | null },
    fixed: Tensors,
  ) {
    this.fixed = fixed;
  }

  async run(
    feeds: Feeds,
    { brief = false, into = {} }: RunOptions = {},
  ): Promise<Record<string, TensorData>> {
    if (this.fixed === null) throw new ExecutorError('the graph was disposed');
    const { full } = this.plans;
    const { steps, outputs } = brief ? (this.plans.brief ?? refuseBrief()) : full;
    checkFeeds(this.inputs, feeds);
    checkPlaces(new Map(Object.entries(outputs)), into);
    select(this.backend);
    const { tf } = this.backend;
    const live: Tensors = new Map();
    try {
      for (const [name, value] of this.inputs) {
        live.set(value, tf.tensor(feeds[name]!, [...value.shape], value.dtype));
      }
      for (const step of steps) {
        live.set(step.value, this.compute(step, live, this.fixed));
        for (const value of step.lastUses) {
          live.get(value)!.dispose();
          live.delete(value);
        }
      }
      const results: Record<string, TensorData> = {};
      for (const [name, value] of Object.entries(outputs)) {
        const tensor = live.get(value) ?? this.fixed.get(value)!;
        // A copy, because a backend in JavaScript hands out the very array that it was given.
        results[name] = (tensor.dataSync() as TensorData).slice();
      }
      return placed(results, into);
    } catch (error) {
      throw failure(error);
    } finally {
      tf.dispose([...live.values()]);
    }
  }

  /** The value of one step; what its operation makes on the way is freed. */
  private compute({ value, source }: Step, live: Tensors, fixed: Tensors): tensorflow.Tensor {
    const { tf } = this.backend;
    const { operation, attributes } = source;
    const inputs = source.inputs.map((one) => live.get(one) ?? fixed.get(one)!);
    const tensor = tf.tidy(() => operation.tfjs({ tf, inputs, attributes, output: value }));
    if (tensor.dtype !== value.dtype || !sameShape(tensor.shape, value.shape)) {
      const made = `${tensor.dtype} [${tensor.shape.join(', ')}]`;
      tensor.dispose();
      throw new ExecutorError(`${operation.name} made ${made} instead of ${describeType(value)}`);
    }
    return tensor;
  }

  async dispose(): Promise<void> {
    this.backend.tf.dispose([...(this.fixed?.values() ?? [])]);
    this.fixed = null;
  }
}

function refuseBrief(): never {
  throw new ExecutorError(NO_BRIEF_RUN);
}

function failure(error: unknown): ExecutorError {
  if (error instanceof ExecutorError) return error;
  const why = error instanceof Error ? error.message : String(error);
  return new ExecutorError(`TensorFlow.js failed: ${why}`, { cause: error });
}
