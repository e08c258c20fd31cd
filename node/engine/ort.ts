/**
 * Carries graphs out with ONNX Runtime, on the CPU or on one of its GPU providers. `run` blocks its thread while it computes, and
 * from the first graph on the thread rounds numbers below 1e-38 to zero, JavaScript's own sums included:
 * a peer trains in a process of its own, apart from the folding that must give the same bits everywhere.
 */
import { realpath } from 'node:fs/promises';
import { dirname, relative, sep } from 'node:path';
import type { OrtDevice } from './devices.js';
import { ExecutorError } from './errors.js';
import type {
  CompiledGraph,
  CompileOptions,
  Executor,
  Feeds,
  Program,
  RunOptions,
  TensorData,
} from './executor.js';
import { checkFeeds, placed } from './feeds.js';
import { topologicalOrder, type TensorType, type Value } from './graph.js';
import { writeOnnx } from './onnx/writer.js';
import { openOrtGraph, reason, type OrtGraph, type OrtModel } from './ort-graph.js';
import { openReplicas } from './ort-replicas.js';

/** Providers that would leave FusedMatMul to the CPU. */
const WITHOUT_FUSED_PRODUCTS: readonly OrtDevice[] = ['webgpu', 'coreml'];

/** What merges equal nodes in ONNX Runtime. */
const MERGING = 'CommonSubexpressionElimination';

/** Settings of ONNX Runtime. */
export interface OrtOptions {
  /** Threads inside one operation, 1 to 256. */
  readonly threads: number;
  /**
   * What computes; default cpu. A provider without a kernel for a node leaves it to the CPU, and copies
   * what it reads and writes: every device carries every graph out, at a price.
   */
  readonly device?: OrtDevice;
  /**
   * Writes ONNX Runtime's profile of every graph to a file whose path starts so, when the graph is disposed: which
   * provider computed each node, and for how long. Default: no profile.
   */
  readonly profile?: string;
}

/** ONNX Runtime on one device. Whether this machine has it, the first `compile` tells. */
export function ortExecutor(options: OrtOptions): Executor {
  const { threads, device = 'cpu' } = options;
  const cpu = `cpu (${threads} ${threads === 1 ? 'thread' : 'threads'})`;
  return {
    device: device === 'cpu' ? cpu : device,
    hasIntegerProducts: device === 'cpu',
    isInPlace: device === 'cpu',
    compile: (program, { replicas = 1, isTight = false } = {}) =>
      compile(program, { ...options, device, replicas, isTight }),
  };
}

/** All that a graph is opened with. */
type Settings = OrtOptions & { readonly device: OrtDevice };

/** On the CPU one session takes both kinds of run; a GPU's gets none of the nodes that decide. */
async function compile(
  program: Program,
  { replicas, isTight, ...settings }: Settings & Required<CompileOptions>,
): Promise<CompiledGraph> {
  const { outputs, brief } = program;
  const { device, threads } = settings;
  if (device === 'cpu' && replicas > 1) {
    const each = Math.max(1, Math.floor(threads / replicas));
    return openReplicas(await prepare(program, { ...settings, threads: each }), replicas);
  }
  if (device === 'cpu' || brief === undefined) return open(program, settings);
  const full = await open({ outputs }, settings);
  const names = Object.keys(brief);
  return new TwoGraphs(full, names, isTight ? null : () => open({ outputs: brief }, settings));
}

async function open(program: Program, settings: Settings): Promise<OrtGraph> {
  return openOrtGraph(await prepare(program, settings));
}

async function prepare(
  program: Program,
  { threads, device, profile }: Settings,
): Promise<OrtModel> {
  const { outputs, brief } = program;
  const files = await locateWeights([...Object.values(outputs), ...Object.values(brief ?? {})]);
  const standard = WITHOUT_FUSED_PRODUCTS.includes(device);
  const pathOf = (file: string): string => files.paths.get(file)!;
  const isCpu = device === 'cpu';
  const { bytes, inputs } = writeOnnx(program, pathOf, {
    standard,
    loops: isCpu,
    sharesWeights: !isCpu,
  });
  return {
    bytes,
    inputs,
    outputs: { full: typesOf(outputs), brief: brief === undefined ? null : typesOf(brief) },
    options: {
      executionProviders: [device],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      // Planned buffers would be held beside those of the first run: half as much memory again.
      enableMemPattern: false,
      logSeverityLevel: 3,
      ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }),
      extra: {
        // See sharesWeights.
        ...(!isCpu && { optimization: { disable_specified_optimizers: MERGING } }),
        session: {
          // Masked attention scores make numbers below 1e-38, on which the CPU is slow.
          set_denormal_as_zero: '1',
          disable_prepacking: program.plainWeights === true ? '1' : '0',
          // Threads that wait sleep: several peers may share one machine.
          intra_op: { allow_spinning: '0' },
          // A model that comes from memory reads its external data below this folder.
          model_external_initializers_file_folder_path: files.folder,
        },
      },
    },
  };
}

/** Without the graph behind them: they are sent to other threads. */
function typesOf(outputs: Program['outputs']): Map<string, TensorType> {
  return new Map(
    Object.entries(outputs).map(([name, { dtype, shape }]) => [name, { dtype, shape }]),
  );
}

/**
 * ONNX Runtime reads external data only below one folder, links resolved: the deepest folder above all
 * weight files, and each file's path from there by its absolute path.
 */
async function locateWeights(
  outputs: readonly Value[],
): Promise<{ folder: string; paths: Map<string, string> }> {
  const files = new Map<string, string>();
  for (const { source } of topologicalOrder(outputs)) {
    if (source.kind !== 'weight') continue;
    const { name, file, scales } = source.weight;
    for (const one of scales === undefined ? [file] : [file, scales.file]) {
      if (!files.has(one)) files.set(one, await resolveFile(one, name));
    }
  }
  let folder = dirname([...files.values()][0] ?? sep);
  for (const path of files.values()) {
    while (relative(folder, path).startsWith('..')) folder = dirname(folder);
  }
  const paths = new Map([...files].map(([file, path]) => [file, relative(folder, path)]));
  return { folder, paths };
}

async function resolveFile(file: string, weight: string): Promise<string> {
  try {
    return await realpath(file);
  } catch (error) {
    throw new ExecutorError(`${file}, which holds weight ${weight}: ${reason(error)}`, {
      cause: error,
    });
  }
}

const WITH_GRADIENT = 'losses are measured with the graph of the gradient, which takes longer.';

/** A graph for each kind of run, the brief one compiled at its first; the other is enough where both do not fit. */
class TwoGraphs implements CompiledGraph {
  /** Null where it failed, or is not to be. */
  private brief: Promise<OrtGraph> | null | undefined;
  remark: string | null = null;

  /** `openBrief`: null where there is no room for it. */
  constructor(
    private readonly full: OrtGraph,
    private readonly names: readonly string[],
    private readonly openBrief: (() => Promise<OrtGraph>) | null,
  ) {
    if (openBrief !== null) return;
    this.brief = null;
    this.remark = `The device has no room for the weights a second time, for losses alone: ${WITH_GRADIENT}`;
  }

  get inputs(): ReadonlyMap<string, TensorType> {
    return this.full.inputs;
  }

  async run(feeds: Feeds, options: RunOptions = {}): Promise<Record<string, TensorData>> {
    if (options.brief !== true) return this.full.run(feeds, options);
    const { into = {} } = options;
    checkFeeds(this.inputs, feeds);
    if (this.brief !== null) {
      try {
        this.brief ??= this.openBrief!();
        const graph = await this.brief;
        const taken = Object.entries(feeds).filter(([name]) => graph.inputs.has(name));
        return await graph.run(Object.fromEntries(taken), { into });
      } catch (error) {
        await this.disposeBrief();
        this.remark = `A graph for the loss alone does not run on this device (${reason(error)}): ${WITH_GRADIENT}`;
      }
    }
    const results = await this.full.run(feeds);
    return placed(Object.fromEntries(this.names.map((name) => [name, results[name]!])), into);
  }

  async dispose(): Promise<void> {
    await this.full.dispose();
    await this.disposeBrief();
  }

  private async disposeBrief(): Promise<void> {
    const opened = this.brief;
    this.brief = null;
    await opened?.then(
      (graph) => graph.dispose(),
      () => undefined,
    );
  }
}
