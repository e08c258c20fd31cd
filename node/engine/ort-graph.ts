/** One graph in one session of ONNX Runtime, in the thread that opens it. */
import './no-telemetry.js';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { ExecutorError, isOutOfMemory, OutOfMemoryError } from './errors.js';
import type { CompiledGraph, Feeds, RunOptions, TensorData } from './executor.js';
import { checkFeeds, checkPlaces, NO_BRIEF_RUN } from './feeds.js';
import type { TensorType } from './graph.js';
import { BRIEF_INPUT, inputName, outputName } from './onnx/writer.js';

/** All that a session is opened with; it can be sent to another thread. */
export interface OrtModel {
  /** The graph as ONNX. */
  readonly bytes: Uint8Array;
  readonly options: InferenceSession.SessionOptions;
  readonly inputs: ReadonlyMap<string, TensorType>;
  /** What a run gives, and what a brief one does; null for a graph that has none. */
  readonly outputs: {
    readonly full: ReadonlyMap<string, TensorType>;
    readonly brief: ReadonlyMap<string, TensorType> | null;
  };
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
  private readonly outputs: OrtModel['outputs'];
  private readonly isProfiled: boolean;
  private session: InferenceSession | null;

  constructor(
    session: InferenceSession,
    { inputs, outputs, options }: Pick<OrtModel, 'inputs' | 'outputs' | 'options'>,
  ) {
    this.session = session;
    this.inputs = inputs;
    this.outputs = outputs;
    this.isProfiled = options.enableProfiling === true;
  }

  async run(
    feeds: Feeds,
    { brief = false, into = {} }: RunOptions = {},
  ): Promise<Record<string, TensorData>> {
    if (this.session === null) throw new ExecutorError('the graph was disposed');
    const outputs = brief ? this.outputs.brief : this.outputs.full;
    if (outputs === null) throw new ExecutorError(NO_BRIEF_RUN);
    checkFeeds(this.inputs, feeds);
    checkPlaces(outputs, into);
    const tensors: Record<string, Tensor> = {};
    for (const [name, { dtype, shape }] of this.inputs) {
      tensors[inputName(name)] = new Tensor(dtype, feeds[name]!, shape);
    }
    if (this.outputs.brief !== null) tensors[BRIEF_INPUT] = new Tensor('bool', [brief], []);
    // ONNX Runtime writes into the array of a tensor that it is given, and makes one for null.
    const fetches: Record<string, Tensor | null> = {};
    for (const [name, { dtype, shape }] of outputs) {
      const place = into[name];
      fetches[outputName(name)] = place === undefined ? null : new Tensor(dtype, place, shape);
    }
    let results: InferenceSession.OnnxValueMapType;
    try {
      results = await this.session.run(tensors, fetches);
    } catch (error) {
      throw failure('ONNX Runtime failed', error, 'what it computes');
    }
    return Object.fromEntries(
      [...outputs.keys()].map((name) => [name, into[name] ?? takeData(results[outputName(name)]!)]),
    );
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
