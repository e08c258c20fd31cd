/** What export can write beside PEFT's files: the whole model with the adapter merged, and the adapter for llama.cpp. */
import { checkBaseModel, openBaseModel } from '../base-model.js';
import { writeGgufAdapter } from '../model/gguf-adapter.js';
import { writeMergedModel, type MergedDtype } from '../model/merge.js';
import { modelName, openModelDirectory } from '../model/model-directory.js';
import type { StoredRun } from '../stored-run.js';
import type { VerbIo } from './verb.js';

/** Throws UserError as writeMergedModel does, and for a base model that is not the run's. */
export async function exportMerged(
  target: string,
  { run, theta }: Pick<StoredRun, 'run' | 'theta'>,
  modelDir: string,
  dtype: MergedDtype | null,
  io: VerbIo,
): Promise<void> {
  const base = await openBaseModel(modelDir);
  checkBaseModel(run, base);
  const { weights } = await openModelDirectory(base.dir);
  let tenths = 0;
  await writeMergedModel(target, {
    dir: base.dir,
    config: base.config,
    weights,
    adapter: run.manifest.adapter,
    theta,
    dtype,
    onProgress: (done, total) => {
      const now = Math.floor((10 * done) / total);
      // Small models are done before anybody could read it.
      if (now > tenths && total > QUICK_BYTES) io.stderr.write(`merging: ${10 * now} %\n`);
      tenths = now;
    },
    signal: io.signal,
  });
}

/** Bytes of weights that are merged within a second or two. */
const QUICK_BYTES = 512 * 1024 * 1024;

/** Throws UserError as writeGgufAdapter does, and for a base model that is not the run's. */
export async function exportGguf(
  target: string,
  { run, theta }: Pick<StoredRun, 'run' | 'theta'>,
  modelDir: string,
): Promise<void> {
  const base = await openBaseModel(modelDir);
  checkBaseModel(run, base);
  await writeGgufAdapter(target, {
    config: base.config,
    adapter: run.manifest.adapter,
    theta,
    name: `${run.manifest.name} on ${modelName(base.dir)}`,
  });
}
