/** One graph in one session of ONNX Runtime, in the thread that opens it. */
import './no-telemetry.js';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { ExecutorError, isOutOfMemory, OutOfMemoryError } from './errors.js';
import type { CompiledGraph, Feeds, RunOptions, TensorData } from './executor.js';
import { checkFeeds, NO_BRIEF_RUN } from './feeds.js';
import type { TensorType } from './graph.js';
import { BRIEF_INPUT, inputName, outputName } from './onnx/writer.js';

/** All that a session is opened with; it can be sent to another thread. */
export interface OrtModel {
  /** The graph as ONNX. */
  readonly bytes: Uint8Array;
  readonly options: InferenceSession.SessionOptions;
  readonly inputs: ReadonlyMap<string, TensorType>;
  /** The names of what a run gives, and of what a brief one does; null for a graph that has none. */
  readonly names: { readonly full: readonly string[]; readonly brief: readonly string[] | null };
}

/** Throws ExecutorError when ONNX Runtime refuses. */
export async function openOrtGraph(model: OrtModel): Promise<OrtGraph> {
  try {
    return new OrtGraph(await InferenceSession.create(model.bytes, model.options), model);
  } catch (error) {
    throw failure('ONNX Runtime refused the graph', error, 'its weights');
  }
}

export class OrtGraph implements CompiledGraph {
  readonly inputs: OrtModel['inputs'];
  private readonly names: OrtModel['names'];
  private readonly isProfiled: boolean;
  private session: InferenceSession | null;

  constructor(
    session: InferenceSession,
    { inputs, names, options }: Pick<OrtModel, 'inputs' | 'names' | 'options'>,
  ) {
    this.session = session;
    this.inputs = inputs;
    this.names = names;
    this.isProfiled = options.enableProfiling === true;
  }

  async run(feeds: Feeds, { brief = false }: RunOptions = {}): Promise<Record<string, TensorData>> {
    if (this.session === null) throw new ExecutorError('the graph was disposed');
    const names = brief ? this.names.brief : this.names.full;
    if (names === null) throw new ExecutorError(NO_BRIEF_RUN);
    checkFeeds(this.inputs, feeds);
    const tensors: Record<string, Tensor> = {};
    for (const [name, { dtype, shape }] of this.inputs) {
      tensors[inputName(name)] = new Tensor(dtype, feeds[name]!, shape);
    }
    if (this.names.brief !== null) tensors[BRIEF_INPUT] = new Tensor('bool', [brief], []);
    let results: InferenceSession.OnnxValueMapType;
    try {
      results = await this.session.run(tensors);
    } catch (error) {
      throw failure('ONNX Runtime failed', error, 'what it computes');
    }
    return Object.fromEntries(names.map((name) => [name, takeData(results[outputName(name)]!)]));
  }

  async dispose(): Promise<void> {
    const { session } = this;
    this.session = null;
    if (this.isProfiled) session?.endProfiling();
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

/** `wanted`: what memory was for, where that is not known to the byte. */
function failure(what: string, cause: unknown, wanted: string): ExecutorError {
  const words = reason(cause);
  if (!isOutOfMemory(words)) return new ExecutorError(`${what}: ${words}`, { cause });
  const bytes = /buffer of size (\d+)/.exec(words)?.[1];
  const lacking = bytes === undefined ? wanted : `${bytes} more bytes`;
  return new OutOfMemoryError(`${what}: no memory for ${lacking}`, { cause });
}

/** What went wrong, in the words of what failed. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
