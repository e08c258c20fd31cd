/** murmurate generate: how the model goes on with a prompt, with the swarm's adapter or without. */
import { availableParallelism } from 'node:os';
import { createHash } from 'node:crypto';
import { checkBaseModel, openBaseModel, type BaseModel } from '../base-model.js';
import { integer, option, real, switchOption, text } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { openTokenizer } from '../data/tokenizer.js';
import { openExecutor } from '../engine/open-executor.js';
import { openLanguageModel } from '../model/language-model.js';
import { loraModules, type AdapterShape } from '../model/lora.js';
import { openModelDirectory } from '../model/model-directory.js';
import { readPeftAdapter } from '../model/peft.js';
import { adapterLayout } from '../../protocol/adapter.js';
import { readStoredRun } from '../stored-run.js';
import { DataDirectory } from '../store/directory.js';
import { readSettings } from '../store/settings.js';
import { chooseDevice } from '../train/choose-device.js';
import { generate } from '../train/generate.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../version.js';
import { deviceOption, directoryOption } from './peer-options.js';
import { defineVerb } from './verb.js';

/** Tokens that the model reads at once: a compromise, for every new token reads them all again. */
const CONTEXT_TOKENS = 256;

export const generateVerb = defineVerb({
  name: 'generate',
  summary: "Continue a prompt with the base model and the swarm's adapter.",
  args: [{ name: 'PROMPT', help: 'used as it is', required: true }],
  options: {
    ...directoryOption,
    ...deviceOption,
    adapter: option(text('DIR'), null, 'use the PEFT adapter in DIR instead of the one in --dir'),
    base: switchOption('use the base model alone'),
    model: option(text('DIR'), null, 'base model', 'the one of --dir, or the embedded tiny-base'),
    maxTokens: option(integer('N', 1, 4096), 64, 'most tokens to write'),
    temperature: option(real('X', 0, 10), 0, '0 takes the likeliest token, above 0 draws'),
    seed: option(text('TEXT'), 'murmurate', 'of the draws: the same text again for the same seed'),
  },
  example: `
$ murmurate generate "Question: Who keeps the spare keys?
Answer:"
 Mrs Okafor at the front desk.`,
  run: async ({ args: [prompt], options, given, io }) => {
    if (options.base && options.adapter !== null) {
      throw new UserError('--base and --adapter exclude each other; give one of them', EXIT_USAGE);
    }
    const settings = await readSettings(new DataDirectory(options.dir));
    const base = await openBaseModel(
      options.model ?? settings?.modelDir ?? EMBEDDED_MODEL_DIRECTORY,
    );
    // Somebody who has no peer yet may try the model: said on stderr, so that nobody takes it for a swarm's.
    const isHomeless =
      !given.has('dir') && (await new DataDirectory(options.dir).readManifest()) === null;
    if (isHomeless && !options.base && options.adapter === null) {
      io.stderr.write(`${options.dir} holds no run: this is the base model alone\n`);
    }
    const { adapter, theta } = await chooseAdapter(base, {
      ...options,
      base: options.base || (isHomeless && options.adapter === null),
    });
    const { weights } = await openModelDirectory(base.dir);
    const sequenceLength = Math.min(CONTEXT_TOKENS, base.config.maxPositions);
    const threads = availableParallelism();
    const chosen = await chooseDevice({ device: options.device, threads }, io.signal);
    const executor = await openExecutor({ device: chosen.device, threads });
    if (chosen.why !== null) io.stderr.write(`device: ${executor.device}; ${chosen.why}\n`);
    const shape = { config: base.config, weights, adapter, executor, batchSize: 1, sequenceLength };
    const tokenizer = await openTokenizer(base.dir, base.config);
    const model = await openLanguageModel(shape);
    try {
      await generate(
        model,
        tokenizer,
        {
          prompt: prompt ?? '',
          theta,
          tokensMax: options.maxTokens,
          temperature: options.temperature,
          seed: new Uint8Array(createHash('sha256').update(options.seed).digest()),
        },
        (piece) => io.stdout.write(piece),
        io.signal,
      );
      io.stdout.write('\n');
    } finally {
      await model.dispose();
    }
  },
});

/** The shape of an adapter and its values: [adapterSize] float32. */
interface ChosenAdapter {
  adapter: AdapterShape;
  theta: Float32Array;
}

async function chooseAdapter(
  base: BaseModel,
  options: { base: boolean; adapter: string | null; dir: string },
): Promise<ChosenAdapter> {
  if (options.base) return zeroAdapter(base);
  if (options.adapter !== null) {
    const { rank, alpha, modules, theta } = await readPeftAdapter(options.adapter);
    return { adapter: { rank, alpha, modules }, theta };
  }
  const { run, theta } = await readStoredRun(options.dir);
  checkBaseModel(run, base);
  return { adapter: run.manifest.adapter, theta };
}

/** An adapter that changes nothing: lora_A and lora_B zero. */
function zeroAdapter({ config }: BaseModel): ChosenAdapter {
  const modules = loraModules(config, ['all-linear']).slice(0, 1);
  const adapter = { rank: 1, alpha: 1, modules };
  return { adapter, theta: new Float32Array(adapterLayout(adapter).size) };
}
