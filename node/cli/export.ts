/** murmurate export: the swarm's adapter as files that other programs load unchanged. */
import { choice, option, text } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../version.js';
import { MERGED_DTYPES, type MergedDtype } from '../model/merge.js';
import { writePeftAdapter } from '../model/peft.js';
import { readStoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings } from '../store/settings.js';
import { contentOf } from './adapter-watch.js';
import { exportGguf, exportMerged } from './export-whole.js';
import { directoryOption, jsonOption } from './peer-options.js';
import { defineVerb } from './verb.js';

export const exportVerb = defineVerb({
  name: 'export',
  summary: "Write the swarm's adapter for other programs; the peer may run or not.",
  args: [
    { name: 'DIR', help: 'directory for the two files of Hugging Face PEFT', required: false },
  ],
  options: {
    ...directoryOption,
    merge: option(
      text('DIR'),
      null,
      'write the whole model with the adapter merged, as a Hugging Face directory',
    ),
    dtype: option(
      choice(Object.keys(MERGED_DTYPES) as MergedDtype[]),
      null,
      'how --merge stores the weights',
      "as the base model's files do",
    ),
    gguf: option(text('FILE'), null, 'write the adapter for llama.cpp (--lora FILE)'),
    model: option(text('DIR'), null, 'base model, for --merge and --gguf', 'the one of --dir'),
    ...jsonOption,
  },
  example: `
$ murmurate export my-adapter
my-adapter/adapter_config.json
my-adapter/adapter_model.safetensors
90 updates up to epoch 29, SHA-256 9b41f0c7a2de...

In Python: PeftModel.from_pretrained(base, "my-adapter")

$ murmurate export --merge my-model --gguf my-adapter.gguf
my-model
my-adapter.gguf
90 updates up to epoch 29, SHA-256 9b41f0c7a2de...`,
  run: async ({ args: [dir], options, io }) => {
    const { merge, gguf, dtype } = options;
    if (dir === null && merge === null && gguf === null) {
      throw new UserError(
        'nothing to write: name a directory for PEFT, --merge DIR or --gguf FILE',
        EXIT_USAGE,
      );
    }
    if (dtype !== null && merge === null) {
      throw new UserError('--dtype is how --merge stores weights; give --merge DIR', EXIT_USAGE);
    }
    const stored = await readStoredRun(options.dir);
    const { run, log, theta, sha256 } = stored;
    const settings = await readSettings(new DataDirectory(options.dir));
    const modelDir = options.model ?? settings?.modelDir ?? EMBEDDED_MODEL_DIRECTORY;
    const written: string[] = [];
    if (dir !== null && dir !== undefined) {
      const spec = run.manifest.adapter;
      await writePeftAdapter(dir, { spec, theta, baseModelName: modelDir });
      written.push(`${dir}/adapter_config.json`, `${dir}/adapter_model.safetensors`);
    }
    if (merge !== null) {
      await exportMerged(merge, stored, modelDir, dtype, io);
      written.push(merge);
    }
    if (gguf !== null) {
      await exportGguf(gguf, stored, modelDir);
      written.push(gguf);
    }
    const { size: updates, newestEpoch: epoch } = log;
    io.stdout.write(
      options.json
        ? `${JSON.stringify({ dir, merged: merge, gguf, runId: run.id, sha256, updates, epoch })}\n`
        : `${written.join('\n')}\n${contentOf(stored)}, SHA-256 ${sha256}\n`,
    );
  },
});
