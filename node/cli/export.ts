/** murmurate export: the swarm's adapter as files that Hugging Face PEFT loads unchanged. */
import { EMBEDDED_MODEL_DIRECTORY } from '../version.js';
import { hubNameOfDirectory } from '../model/hub-name.js';
import { writePeftAdapter } from '../model/peft.js';
import { readStoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings } from '../store/settings.js';
import { directoryOption, jsonOption } from './peer-options.js';
import { defineVerb } from './verb.js';

export const exportVerb = defineVerb({
  name: 'export',
  summary: "Write the swarm's adapter for Hugging Face PEFT; the peer may run or not.",
  args: [{ name: 'DIR', help: 'directory for the two files', required: true }],
  options: { ...directoryOption, ...jsonOption },
  example: `
$ murmurate export my-adapter
my-adapter/adapter_config.json
my-adapter/adapter_model.safetensors
90 updates up to epoch 29, SHA-256 9b41f0c7a2de...

In Python: PeftModel.from_pretrained(base, "my-adapter")`,
  run: async ({ args: [target], options, io }) => {
    const { run, log, theta, sha256 } = await readStoredRun(options.dir);
    const settings = await readSettings(new DataDirectory(options.dir));
    const modelDir = settings?.modelDir ?? EMBEDDED_MODEL_DIRECTORY;
    const dir = target ?? '.';
    await writePeftAdapter(dir, {
      spec: run.manifest.adapter,
      theta,
      baseModelName: hubNameOfDirectory(modelDir)?.name ?? modelDir,
    });
    const { size: updates, newestEpoch: epoch } = log;
    io.stdout.write(
      options.json
        ? `${JSON.stringify({ dir, runId: run.id, sha256, updates, epoch })}\n`
        : `${dir}/adapter_config.json\n${dir}/adapter_model.safetensors\n` +
            `${contentOf(updates, epoch)}, SHA-256 ${sha256}\n`,
    );
  },
});

function contentOf(updates: number, epoch: number): string {
  if (updates === 0) return 'no updates yet, so the adapter changes nothing';
  return `${updates} ${updates === 1 ? 'update' : 'updates'} up to epoch ${epoch}`;
}
