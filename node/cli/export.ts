/** murmurate export: the swarm's adapter, or a personal one made from it, as files that other programs load unchanged. */
import { adapterSha256 } from '../../protocol/adapter.js';
import { choice, option, switchOption, text } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { adapterUpTo, contentInWords } from '../past-adapters.js';
import { hubNameOfDirectory } from '../model/hub-name.js';
import { MERGED_DTYPES, type MergedDtype } from '../model/merge.js';
import { writePeftAdapter } from '../model/peft.js';
import { readStoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import type { PersonalFacts } from '../store/personal-file.js';
import { readSettings } from '../store/settings.js';
import { modelDirectory, modelOption } from './base-choice.js';
import { exportGguf, exportMerged } from './export-whole.js';
import { directoryOption, epochOption, jsonOption } from './peer-options.js';
import { nats, privacySentence } from './personal.js';
import { readPersonalExperts } from './personal-experts.js';
import { defineVerb } from './verb.js';

export const exportVerb = defineVerb({
  name: 'export',
  summary: "Write the swarm's adapter for other programs; the peer may run or not.",
  args: [
    { name: 'DIR', help: 'directory for the two files of Hugging Face PEFT', required: false },
  ],
  options: {
    ...directoryOption,
    ...epochOption,
    personal: switchOption(
      'the best as one adapter of what murmurate personal trained on this peer’s own text; not to be handed on',
    ),
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
    model: { ...modelOption.model, defaultText: 'the one of --dir' },
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
  run: async ({ args: [dir = null], options, io }) => {
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
    if (options.personal && options.epoch !== null) {
      throw new UserError(
        '--personal and --epoch exclude each other; murmurate personal --epoch N goes on from an earlier epoch',
        EXIT_USAGE,
      );
    }
    const stored = await readStoredRun(options.dir);
    const settings = await readSettings(new DataDirectory(options.dir));
    const modelDir = await modelDirectory(options.model, settings, io);
    const { theta: swarm, ...content } = adapterUpTo(stored, options.epoch);
    const personal = options.personal ? await readPersonalExperts(options.dir, stored.run) : null;
    const theta = personal?.single ?? swarm;
    const chosen = { run: stored.run, theta };
    const written: string[] = [];
    if (dir !== null) {
      await writePeftAdapter(dir, {
        spec: stored.run.manifest.adapter,
        theta,
        baseModelName: hubNameOfDirectory(modelDir)?.name ?? modelDir,
        isPersonal: personal !== null,
      });
      written.push(`${dir}/adapter_config.json`, `${dir}/adapter_model.safetensors`);
    }
    if (merge !== null) {
      await exportMerged(merge, chosen, modelDir, dtype, io);
      written.push(merge);
    }
    if (gguf !== null) {
      await exportGguf(gguf, chosen, modelDir);
      written.push(gguf);
    }
    const sha256 = adapterSha256(theta);
    const facts = { dir, merged: merge, gguf, runId: stored.run.id, sha256, ...content };
    io.stdout.write(
      options.json
        ? `${JSON.stringify({ ...facts, personal: personal?.facts ?? null })}\n`
        : `${written.join('\n')}\n${contentInWords(personal?.facts ?? content)}, SHA-256 ${sha256}\n` +
            (personal === null ? '' : describeSingle(personal.facts)),
    );
  },
});

/** Lines for people: where the adapter lies, what it gives up, and that it is not for others. */
function describeSingle({
  heldOutLoss,
  end,
  share,
  rounds,
  hasNoisyUpdates,
}: PersonalFacts): string {
  const to = end === 'alone' ? 'one trained alone' : `one that went on for ${rounds} epochs`;
  const how =
    share === 0
      ? 'nothing made from own text is better than the swarm’s adapter: this is it'
      : `${100 * share} % of the way from the swarm’s adapter to ${to} on own text`;
  return `personal: ${how}\n${lossSentence(heldOutLoss)}\n${privacySentence('It was', hasNoisyUpdates)}`;
}

/** What one adapter gives up against the mixture, which a short text tells little. */
function lossSentence({ swarm, single, mixture }: PersonalFacts['heldOutLoss']): string {
  const lost = single === null || mixture === null ? null : single - mixture;
  const all = `(${nats(single)}, mixture ${nats(mixture)}, swarm ${nats(swarm)})`;
  return lost !== null && lost < 0
    ? `as one adapter it is ${nats(-lost)} nats per held-out token of own text better than the mixture of --personal ${all}, which forgets less of other text`
    : `as one adapter it gives up ${nats(lost)} nats per held-out token of own text against the mixture of --personal ${all}`;
}
