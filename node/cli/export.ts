/** murmurate export: the swarm's adapter, or a personal one made from it, as files that Hugging Face PEFT loads unchanged. */
import { adapterSha256 } from '../../protocol/adapter.js';
import { switchOption } from '../config.js';
import { adapterOfEpoch } from '../past-adapters.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../version.js';
import { writePeftAdapter } from '../model/peft.js';
import { readStoredRun, type StoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings } from '../store/settings.js';
import { directoryOption, epochOption, jsonOption } from './peer-options.js';
import { describePersonal, makePersonal, type Personal } from './personal.js';
import { trainerOptions } from './stored-trainer.js';
import { defineVerb } from './verb.js';

export const exportVerb = defineVerb({
  name: 'export',
  summary: "Write the swarm's adapter for Hugging Face PEFT; the peer may run or not.",
  args: [{ name: 'DIR', help: 'directory for the two files', required: true }],
  options: {
    ...directoryOption,
    ...epochOption,
    personal: switchOption(
      'train it on with this peer’s own text first, as far as its held-out text says that this helps; not to be handed on',
    ),
    ...trainerOptions,
    ...jsonOption,
  },
  example: `
$ murmurate export my-adapter
my-adapter/adapter_config.json
my-adapter/adapter_model.safetensors
90 updates up to epoch 29, SHA-256 9b41f0c7a2de...

In Python: PeftModel.from_pretrained(base, "my-adapter")`,
  run: async ({ args: [target], options, io }) => {
    const stored = await readStoredRun(options.dir);
    const settings = await readSettings(new DataDirectory(options.dir));
    const dir = target ?? '.';
    const { theta: swarm, updates, epoch } = adapterOf(stored, options.epoch);
    const personal = options.personal ? await makePersonal(stored, swarm, options, io) : null;
    const theta = personal?.theta ?? swarm;
    await writePeftAdapter(dir, {
      spec: stored.run.manifest.adapter,
      theta,
      baseModelName: settings?.modelDir ?? EMBEDDED_MODEL_DIRECTORY,
      isPersonal: personal !== null,
    });
    const sha256 = adapterSha256(theta);
    const facts = { dir, runId: stored.run.id, sha256, updates, epoch };
    io.stdout.write(
      options.json
        ? `${JSON.stringify({ ...facts, personal: personal && factsOf(personal, adapterSha256(swarm)) })}\n`
        : `${dir}/adapter_config.json\n${dir}/adapter_model.safetensors\n` +
            `${contentOf(updates, epoch)}, SHA-256 ${sha256}\n` +
            (personal === null ? '' : describePersonal(personal)),
    );
  },
});

/** The newest adapter, or that of an epoch. Throws UserError as adapterOfEpoch does. */
function adapterOf(
  stored: StoredRun,
  epoch: number | null,
): { theta: Float32Array; updates: number; epoch: number } {
  if (epoch !== null) return adapterOfEpoch(stored, epoch);
  const { log, checkpoint, theta } = stored;
  return { theta, updates: checkpoint.contributions + log.size, epoch: log.newestEpoch };
}

function factsOf(
  { base, losses, end, share, rounds, hasNoisyUpdates }: Personal,
  swarmSha256: string,
): object {
  const heldOutLoss = { base, ...losses };
  return { swarmSha256, heldOutLoss, end, share, rounds, hasNoisyUpdates };
}

function contentOf(updates: number, epoch: number): string {
  if (updates === 0) return 'no updates yet, so the adapter changes nothing';
  return `${updates} ${updates === 1 ? 'update' : 'updates'} up to epoch ${epoch}`;
}
