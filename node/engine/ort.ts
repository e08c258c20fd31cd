/**
 * Carries graphs out with ONNX Runtime, on the CPU or on one of its GPU providers. `run` blocks its thread while it computes, and
 * from the first graph on the thread rounds numbers below 1e-38 to zero, JavaScript's own sums included:
 * a peer trains in a process of its own, apart from the folding that must give the same bits everywhere.
 */
import { realpath } from 'node:fs/promises';
import { dirname, relative, sep } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { OrtDevice } from './devices.js';
import { ExecutorError, isOutOfMemory, OutOfMemoryError } from './errors.js';
import type { CompiledGraph, Executor, Program, TensorData } from './executor.js';
import { checkFeeds } from './feeds.js';
import { topologicalOrder, type TensorType, type WeightSource } from './graph.js';
import { inputName, outputName, writeOnnx } from './onnx/writer.js';

/** Providers that would leave FusedMatMul to the CPU. */
const WITHOUT_FUSED_PRODUCTS: readonly OrtDevice[] = ['webgpu', 'coreml'];

/** Settings of ONNX Runtime. */
export interface OrtOptions {
  /** Threads inside one operation, 1 to 256. */
  readonly threads: number;
  /**
   * What computes; default cpu. A provider without a kernel for a node leaves it to the CPU, and copies
   * what it reads and writes: every device carries every graph out, at a price.
   */
  readonly device?: OrtDevice;
}

/** ONNX Runtime on one device. Whether this machine has it, the first `compile` tells. */
export function ortExecutor({ threads, device = 'cpu' }: OrtOptions): Executor {
  const cpu = `cpu (${threads} ${threads === 1 ? 'thread' : 'threads'})`;
  return {
    device: device === 'cpu' ? cpu : device,
    compile: (program) => compile(program, threads, device),
  };
}

async function compile(
  { outputs }: Program,
  threads: number,
  device: OrtDevice,
): Promise<CompiledGraph> {
  const files = await locateWeights(outputs);
  const standard = WITHOUT_FUSED_PRODUCTS.includes(device);
  const model = writeOnnx(outputs, (weight) => files.paths.get(weight.file)!, { standard });
  try {
    const session = await InferenceSession.create(model.bytes, {
      executionProviders: [device],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      // Planned buffers would be held beside those of the first run: half as much memory again.
      enableMemPattern: false,
      logSeverityLevel: 3,
      extra: {
        session: {
          // Masked attention scores make numbers below 1e-38, on which the CPU is slow.
          set_denormal_as_zero: '1',
          // Threads that wait sleep: several peers may share one machine.
          intra_op: { allow_spinning: '0' },
          // A model that comes from memory reads its external data below this folder.
          model_external_initializers_file_folder_path: files.folder,
        },
      },
    });
    return new OrtGraph(session, model.inputs, Object.keys(outputs));
  } catch (error) {
    throw failure('ONNX Runtime refused the graph', error);
  }
}

/**
 * ONNX Runtime reads external data only below one folder, links resolved: the deepest folder above all
 * weight files, and each file's path from there by its absolute path.
 */
async function locateWeights(
  outputs: Program['outputs'],
): Promise<{ folder: string; paths: Map<string, string> }> {
  const files = new Map<string, string>();
  for (const { source } of topologicalOrder(Object.values(outputs))) {
    if (source.kind === 'weight' && !files.has(source.weight.file)) {
      files.set(source.weight.file, await resolveFile(source.weight));
    }
  }
  let folder = dirname([...files.values()][0] ?? sep);
  for (const path of files.values()) {
    while (relative(folder, path).startsWith('..')) folder = dirname(folder);
  }
  const paths = new Map([...files].map(([file, path]) => [file, relative(folder, path)]));
  return { folder, paths };
}

async function resolveFile(weight: WeightSource): Promise<string> {
  try {
    return await realpath(weight.file);
  } catch (error) {
    throw new ExecutorError(`${weight.file}, which holds weight ${weight.name}: ${reason(error)}`, {
      cause: error,
    });
  }
}

class OrtGraph implements CompiledGraph {
  private session: InferenceSession | null;

  constructor(
    session: InferenceSession,
    readonly inputs: ReadonlyMap<string, TensorType>,
    private readonly outputs: readonly string[],
  ) {
    this.session = session;
  }

  async run(feeds: Readonly<Record<string, TensorData>>): Promise<Record<string, TensorData>> {
    if (this.session === null) throw new ExecutorError('the graph was disposed');
    checkFeeds(this.inputs, feeds);
    const tensors: Record<string, Tensor> = {};
    for (const [name, { dtype, shape }] of this.inputs) {
      tensors[inputName(name)] = new Tensor(dtype, feeds[name]!, shape);
    }
    let results: InferenceSession.OnnxValueMapType;
    try {
      results = await this.session.run(tensors);
    } catch (error) {
      throw failure('ONNX Runtime failed', error);
    }
    return Object.fromEntries(
      this.outputs.map((name) => [name, takeData(results[outputName(name)]!)]),
    );
  }

  async dispose(): Promise<void> {
    const { session } = this;
    this.session = null;
    await session?.release();
  }
}

function takeData(tensor: Tensor): TensorData {
  const { data } = tensor;
  if (!(data instanceof Float32Array) && !(data instanceof Int32Array)) {
    throw new ExecutorError(`an output has type ${tensor.type}, but only float32 and int32 return`);
  }
  return data;
}

function failure(what: string, cause: unknown): ExecutorError {
  const words = reason(cause);
  if (!isOutOfMemory(words)) return new ExecutorError(`${what}: ${words}`, { cause });
  const bytes = /buffer of size (\d+)/.exec(words)?.[1];
  const wanted = bytes === undefined ? 'its weights' : `${bytes} more bytes`;
  return new OutOfMemoryError(`${what}: no memory for ${wanted}`, { cause });
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
