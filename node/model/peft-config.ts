/**
 * What the adapter_config.json of a PEFT adapter says: rank and scale of each layer. A field that may change what an
 * adapter computes, and that this version does not apply, is refused by name, whether it is known today or not.
 */
import { z } from 'zod';
import { RANK_MAX } from '../../protocol/limits.js';
import { UserError } from '../errors.js';
import { readJsonFile } from '../json-file.js';
import { namePattern } from './name-pattern.js';

/** Bytes of an adapter_config.json: real ones have 1 KB. */
const CONFIG_BYTES_MAX = 1024 * 1024;
const ALPHA_MAX = 1e6;
/** Patterns of rank_pattern or alpha_pattern: one for each layer of the largest models. */
const PATTERNS_MAX = 4_096;
/** Those that are regular expressions rather than names: each layer's name is run through all of them. */
const EXPRESSIONS_MAX = 64;
/** Of a value that an error shows. */
const SHOWN_CHARACTERS_MAX = 60;

const no = (message: string): { error: string } => ({ error: `but ${message}` });
const rank = z
  .int(no('must be a whole number'))
  .min(1, no(`must be 1 to ${RANK_MAX}`))
  .max(RANK_MAX, no(`must be 1 to ${RANK_MAX}`));
const alpha = z
  .number(no('must be a number'))
  .positive(no('must be above 0'))
  // As in the manifest of a run: far more would overflow float32.
  .max(ALPHA_MAX, no(`must be at most ${ALPHA_MAX}`));
const targets = z.union(
  [z.string(), z.array(z.string())],
  no('must be a module name or pattern, or a list of names'),
);

/** Fields that are applied. */
const configSchema = z.looseObject({
  peft_type: z.literal('LORA', no('only LORA is supported')),
  r: rank,
  lora_alpha: alpha,
  // The tensors name the layers, whichever way they were chosen.
  target_modules: targets.nullish(),
  // How the base model's files hold a layer; the adapter's own arithmetic is the same.
  fan_in_fan_out: z.boolean(no('must be true or false')).nullish(),
  use_rslora: z.boolean(no('must be true or false')).nullish(),
  rank_pattern: z.record(z.string(), rank, no('must be an object of ranks')).nullish(),
  alpha_pattern: z.record(z.string(), alpha, no('must be an object of numbers')).nullish(),
  init_lora_weights: z
    .union([z.boolean(), z.string()], no('must be a word, true or false'))
    .nullish(),
});

/** Fields that say nothing about what a trained adapter computes, whatever is in them. */
const HARMLESS = new Set([
  'auto_mapping',
  'base_model_name_or_path',
  'eva_config',
  'exclude_modules',
  'inference_mode',
  'layers_pattern',
  'layers_to_transform',
  // Noise while PEFT trains.
  'lora_dropout',
  'megatron_core',
  'peft_version',
  'qalora_group_size',
  'revision',
  'task_type',
]);
/** How factors were begun from without touching the base; every other word changes the base's weights. */
const PLAIN_STARTS: readonly unknown[] = [
  undefined,
  null,
  true,
  false,
  'gaussian',
  'eva',
  'orthogonal',
];

/** How one layer's factors are applied: W x + scale B A x. */
export interface LayerScale {
  rank: number;
  scale: number;
}

export interface PeftConfig {
  /** As listed; null where a pattern or PEFT itself chose them. */
  targetModules: string[] | null;
  /** Of layers that no pattern names. */
  rank: number;
  alpha: number;
  /** Throws UserError for a layer whose scale a pattern says in a way that is not known. */
  layer: (name: string) => LayerScale & { alpha: number };
  /** Whether the scale is alpha / sqrt(rank) rather than alpha / rank. */
  isRankStabilised: boolean;
}

/** Reads adapter_config.json. Throws UserError that names the first field that cannot be used. */
export async function readPeftConfig(path: string): Promise<PeftConfig> {
  const config = await readJsonFile(path, CONFIG_BYTES_MAX, "the adapter's config", configSchema);
  refuseVariants(config, path);
  const isRankStabilised = config.use_rslora === true;
  const rankOf = patterns(config.rank_pattern ?? {}, 'rank_pattern', path);
  const alphaOf = patterns(config.alpha_pattern ?? {}, 'alpha_pattern', path);
  return {
    targetModules: Array.isArray(config.target_modules) ? config.target_modules : null,
    rank: config.r,
    alpha: config.lora_alpha,
    isRankStabilised,
    layer: (name) => {
      const own = rankOf(name) ?? config.r;
      const ownAlpha = alphaOf(name) ?? config.lora_alpha;
      const scale = ownAlpha / (isRankStabilised ? Math.sqrt(own) : own);
      return { rank: own, alpha: ownAlpha, scale };
    },
  };
}

function refuseVariants(config: Readonly<Record<string, unknown>>, path: string): void {
  const start = config['init_lora_weights'];
  if (!PLAIN_STARTS.includes(start)) {
    throw new UserError(
      `${path}: field "init_lora_weights" is ${shown(start)}, with which PEFT changes the base model's weights too: save the adapter with PEFT's path_initial_model_for_weight_conversion, which makes plain LoRA of it`,
    );
  }
  for (const [field, value] of Object.entries(config)) {
    const isKnown = Object.hasOwn(configSchema.shape, field) || HARMLESS.has(field);
    if (isKnown || isUnset(value) || (field === 'bias' && value === 'none')) continue;
    throw new UserError(
      `${path}: field "${field.slice(0, SHOWN_CHARACTERS_MAX)}" is ${shown(value)}, which this version does not apply: only adapters without it can be used`,
    );
  }
}

/** Null, false, 0 or empty: how PEFT writes what an adapter does not use. */
function isUnset(value: unknown): boolean {
  if (typeof value === 'object' && value !== null) return Object.keys(value).length === 0;
  return value === null || value === false || value === '' || value === 0;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > SHOWN_CHARACTERS_MAX ? `${text.slice(0, SHOWN_CHARACTERS_MAX)}...` : text;
}

/** The value of the first pattern that matches a name, as PEFT looks it up. */
function patterns(
  values: Readonly<Record<string, number>>,
  field: string,
  path: string,
): (name: string) => number | undefined {
  const entries = Object.entries(values);
  const expressions = entries.filter(([pattern]) => !/^[\w.-]*$/.test(pattern)).length;
  if (entries.length > PATTERNS_MAX || expressions > EXPRESSIONS_MAX) {
    throw new UserError(
      `${path}: field "${field}" has ${entries.length} patterns, ${expressions} of them regular expressions, but at most ${PATTERNS_MAX} and ${EXPRESSIONS_MAX} are supported`,
    );
  }
  const tests = entries.map(([pattern, value]) => {
    const test = namePattern(pattern);
    if (test !== null) return { test, value };
    throw new UserError(
      `${path}: field "${field}" has the pattern ${shown(pattern)}, which is not supported: name the layers, or use . * + ? | ( ) [ ] and { } alone`,
    );
  });
  return (name) => tests.find(({ test }) => test(name))?.value;
}
