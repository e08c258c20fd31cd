/**
 * Rotary positions (RoPE, Su et al. 2021) and the scalings of their frequencies that stretch a model's
 * context: linear (Chen et al. 2023), Llama 3's, YaRN (Peng et al. 2023) and LongRoPE (Ding et al. 2024), with
 * the arithmetic of Transformers. Dynamic scaling changes nothing within the model's positions, beyond which no
 * sequence goes here.
 */
import { z } from 'zod';
import { constant, type Value } from '../engine/graph.js';
import { gather, reshape, slice } from '../engine/ops/index.js';
import { UserError } from '../errors.js';
import {
  between,
  flag,
  HEAD_DIM_MAX,
  object,
  POSITIONS_MAX,
  refuse,
  text,
  whole,
} from './config-fields.js';

/** How rotary frequencies differ from base^(-2 i / D). */
export type RopeScaling =
  | {
      type: 'linear';
      /** Every frequency is divided by it, 1 to 1e6. */
      factor: number;
    }
  | {
      type: 'llama3';
      /** Low frequencies are divided by it, 1 to 1e6. */
      factor: number;
      /** Frequencies of fewer turns than this over the original context are low, above 0. */
      lowFrequencyTurns: number;
      /** Frequencies of more turns stay as they are; above lowFrequencyTurns. */
      highFrequencyTurns: number;
      /** Tokens of the context before it was stretched, 1 to 2^26. */
      originalPositions: number;
    }
  | {
      type: 'yarn';
      /** Frequencies of few turns are divided by it, 1e-6 to 1e6. */
      factor: number;
      /** Turns over the original context: frequencies of more than the first stay, of fewer than the second are divided. */
      fastTurns: number;
      slowTurns: number;
      /** Whether the two bounds are moved outwards to whole places among the frequencies. */
      isTruncated: boolean;
      /** cos and sin are multiplied by it. */
      attentionFactor: number;
      originalPositions: number;
    }
  | {
      /** Within the original context, where the factors for long sequences play no part. */
      type: 'longrope';
      /** How far the context was stretched. */
      factor: number;
      /** Each frequency is divided by its own, 1e-6 to 1e6. */
      shortFactors: number[];
      /** cos and sin are multiplied by it; null: sqrt(1 + ln factor / ln originalPositions), at least 1. */
      attentionFactor: number | null;
      originalPositions: number;
    };

const factor = between(1, 1e6).nullish();
const divisor = between(1e-6, 1e6);
const turns = between(1e-6, 1e6).nullish();

const ropeFields = {
  rope_type: text.nullish(),
  type: text.nullish(),
  rope_theta: between(1, 1e12).nullish(),
  partial_rotary_factor: between(0, 1).nullish(),
  factor,
  low_freq_factor: turns,
  high_freq_factor: turns,
  short_factor: z.array(divisor).max(HEAD_DIM_MAX).nullish(),
  attention_factor: divisor.nullish(),
  beta_fast: between(0, 1e6).nullish(),
  beta_slow: between(0, 1e6).nullish(),
  mscale: between(0, 1e6).nullish(),
  mscale_all_dim: between(0, 1e6).nullish(),
  truncate: flag.nullish(),
  original_max_position_embeddings: whole(2, POSITIONS_MAX).nullish(),
};
/** One set of rotary parameters. */
export type RawRope = z.infer<z.ZodObject<typeof ropeFields>>;

/** rope_scaling (before Transformers 5): one set. */
export const ropeField = z.looseObject(ropeFields, object).nullish();
/** rope_parameters (Transformers 5): one set, or one for each kind of layer. */
export const ropeByKindField = z
  .looseObject({ ...ropeFields, full_attention: ropeField, sliding_attention: ropeField }, object)
  .nullish();

/** Where a set of rotary parameters stood, and what else decides how it is read. */
export interface RopeSource {
  field: string;
  sourceName: string;
  /** Tokens of the model's context, stretched. */
  maxPositions: number;
}

/** null for plain frequencies. Throws UserError for another scaling, or when a number that it needs is missing. */
export function readRopeScaling(raw: RawRope, source: RopeSource): RopeScaling | null {
  const { field, sourceName } = source;
  const ofLayers = Object.entries(raw).find(([, value]) => isObject(value));
  if (ofLayers !== undefined) {
    refuse(sourceName, `${field}.${ofLayers[0]} for some layers`, 'one set for all layers');
  }
  const type = raw.rope_type ?? raw.type ?? 'default';
  if (type === 'default') return null;
  const missing = (name: keyof RawRope): never => {
    throw new UserError(
      `${sourceName}: rotary scaling "${type}" (${field}) has no ${name}: get the model's own config.json`,
    );
  };
  switch (type) {
    case 'linear':
      return { type, factor: raw.factor ?? missing('factor') };
    case 'llama3':
      return ordered(
        {
          type,
          factor: raw.factor ?? missing('factor'),
          lowFrequencyTurns: raw.low_freq_factor ?? missing('low_freq_factor'),
          highFrequencyTurns: raw.high_freq_factor ?? missing('high_freq_factor'),
          originalPositions:
            raw.original_max_position_embeddings ?? missing('original_max_position_embeddings'),
        },
        source,
      );
    case 'dynamic':
      if (!raw.factor) missing('factor');
      return null;
    case 'yarn':
      return yarn(raw, source);
    case 'longrope':
    case 'su': {
      const originalPositions =
        raw.original_max_position_embeddings ?? missing('original_max_position_embeddings');
      return {
        type: 'longrope',
        factor: raw.factor ?? source.maxPositions / originalPositions,
        shortFactors: raw.short_factor ?? missing('short_factor'),
        attentionFactor: raw.attention_factor ?? null,
        originalPositions,
      };
    }
    default:
      refuse(
        sourceName,
        `rotary scaling "${type}" (${field})`,
        'default, linear, dynamic, llama3, yarn, longrope',
      );
  }
}

/** With Transformers' values for what is absent or 0. */
function yarn(raw: RawRope, { maxPositions }: RopeSource): RopeScaling {
  const originalPositions = raw.original_max_position_embeddings ?? maxPositions;
  const factor = raw.factor ?? maxPositions / originalPositions;
  const strength = (share: number): number =>
    factor <= 1 ? 1 : 0.1 * share * Math.log(factor) + 1;
  const { mscale, mscale_all_dim: ofAll } = raw;
  const usual = mscale && ofAll ? strength(mscale) / strength(ofAll) : strength(1);
  return {
    type: 'yarn',
    ...{ factor, originalPositions },
    fastTurns: raw.beta_fast || 32,
    slowTurns: raw.beta_slow || 1,
    isTruncated: raw.truncate ?? true,
    attentionFactor: raw.attention_factor ?? usual,
  };
}

type Llama3Scaling = Extract<RopeScaling, { type: 'llama3' }>;

function ordered(scaling: Llama3Scaling, { field, sourceName }: RopeSource): RopeScaling {
  const { lowFrequencyTurns: low, highFrequencyTurns: high } = scaling;
  if (high > low) return scaling;
  throw new UserError(
    `${sourceName}: high_freq_factor ${high} (${field}) must be above low_freq_factor ${low}: get the model's own config.json`,
  );
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * Radians per position after scaling, for a frequency in radians per position before it; `index` is its
 * place among the frequencies of a head, from 0. `rotated`: features of a head; `base`: of all frequencies.
 */
export function scaleFrequency(
  frequency: number,
  index: number,
  scaling: RopeScaling | null,
  { rotated, base }: { rotated: number; base: number },
): number {
  if (scaling === null) return frequency;
  if (scaling.type === 'linear') return frequency / scaling.factor;
  if (scaling.type === 'yarn') {
    const divided = yarnShare(index, scaling, rotated, base);
    return (divided * frequency) / scaling.factor + (1 - divided) * frequency;
  }
  if (scaling.type === 'longrope') return frequency / scaling.shortFactors[index]!;
  const { factor: divisor, lowFrequencyTurns: low, highFrequencyTurns: high } = scaling;
  const turnsInContext = (scaling.originalPositions * frequency) / (2 * Math.PI);
  const kept = Math.min(1, Math.max(0, (turnsInContext - low) / (high - low)));
  return ((1 - kept) * frequency) / divisor + kept * frequency;
}

/** How far the frequency at `index` is divided: 0 to 1, rising in between two places. */
function yarnShare(
  index: number,
  scaling: Extract<RopeScaling, { type: 'yarn' }>,
  rotated: number,
  base: number,
): number {
  const { originalPositions, fastTurns, slowTurns, isTruncated } = scaling;
  const placeOf = (turns: number): number =>
    (rotated * Math.log(originalPositions / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [fast, slow] = [placeOf(fastTurns), placeOf(slowTurns)];
  const low = Math.max(0, isTruncated ? Math.floor(fast) : fast);
  const high = Math.min(rotated - 1, isTruncated ? Math.ceil(slow) : slow);
  const width = low === high ? 0.001 : high - low;
  return Math.min(1, Math.max(0, (index - low) / width));
}

/** What cos and sin are multiplied by. */
export function rotaryAmplitude(scaling: RopeScaling | null): number {
  if (scaling?.type === 'yarn') return scaling.attentionFactor;
  if (scaling?.type !== 'longrope') return 1;
  const { factor, originalPositions, attentionFactor } = scaling;
  if (attentionFactor !== null) return attentionFactor;
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalPositions));
}

/**
 * cos and sin of position x frequency, frequencies base^(-2 i / R) scaled, R being the rotated features
 * of a head: [T, R / 2] float32 each.
 */
export function rotaryTables(
  length: number,
  rotated: number,
  base: number,
  scaling: RopeScaling | null,
): [Value, Value] {
  const half = rotated / 2;
  const angles = Float64Array.from({ length: length * half }, (_, i) => {
    const plain = base ** (-(i % half) / half);
    const frequency = scaleFrequency(plain, i % half, scaling, { rotated, base });
    return Math.floor(i / half) * frequency;
  });
  const amplitude = rotaryAmplitude(scaling);
  const table = (f: (angle: number) => number): Value =>
    constant(
      Float32Array.from(angles, (angle) => amplitude * f(angle)),
      [length, half],
    );
  return [table(Math.cos), table(Math.sin)];
}

/** positions: [B, T] int32, the same in all rows, tables: [any, D / 2] float32 -> the tables of T tokens there: [T, D / 2] each. */
export function tablesAt(positions: Value, tables: readonly [Value, Value]): [Value, Value] {
  const one = positions.shape[0] === 1 ? positions : slice(positions, 0, 0, 1);
  const rows = (table: Value): Value =>
    reshape(gather(table, one), [positions.shape[1]!, table.shape[1]!]);
  return [rows(tables[0]), rows(tables[1])];
}
