/**
 * Rotary positions (RoPE, Su et al. 2021) and the scalings of their frequencies that stretch a model's
 * context: linear (Chen et al. 2023) and Llama 3's, with the arithmetic of Transformers.
 */
import { z } from 'zod';
import { constant, type Value } from '../engine/graph.js';
import { gather, reshape } from '../engine/ops/index.js';
import { UserError } from '../errors.js';
import { between, object, POSITIONS_MAX, refuse, text, whole } from './config-fields.js';

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
    };

const factor = between(1, 1e6).nullish();
const turns = between(1e-6, 1e6).nullish();

/** rope_parameters (Transformers 5) or rope_scaling (before). */
export const ropeField = z
  .looseObject(
    {
      rope_type: text.nullish(),
      type: text.nullish(),
      rope_theta: between(1, 1e12).nullish(),
      partial_rotary_factor: between(0, 1).nullish(),
      factor,
      low_freq_factor: turns,
      high_freq_factor: turns,
      original_max_position_embeddings: whole(1, POSITIONS_MAX).nullish(),
    },
    object,
  )
  .nullish();
type RawRope = z.infer<typeof ropeField>;

/**
 * null for plain frequencies. `field` is where `raw` stood. Throws UserError for another scaling, or when
 * a number that it needs is missing.
 */
export function readRopeScaling(
  raw: RawRope,
  field: string,
  sourceName: string,
): RopeScaling | null {
  const ofLayers = Object.entries(raw ?? {}).find(([, value]) => isObject(value));
  if (ofLayers !== undefined) {
    refuse(sourceName, `${field}.${ofLayers[0]} for some layers`, 'one set for all layers');
  }
  const type = raw?.rope_type ?? raw?.type ?? 'default';
  if (!raw || type === 'default') return null;
  const need = (name: keyof NonNullable<RawRope>): number => {
    const value = raw[name];
    if (typeof value === 'number') return value;
    throw new UserError(
      `${sourceName}: rotary scaling "${type}" (${field}) has no ${name}: get the model's own config.json`,
    );
  };
  if (type === 'linear') return { type, factor: need('factor') };
  if (type !== 'llama3') {
    refuse(sourceName, `rotary scaling "${type}" (${field})`, 'default, linear, llama3');
  }
  const scaling: RopeScaling = {
    type,
    factor: need('factor'),
    lowFrequencyTurns: need('low_freq_factor'),
    highFrequencyTurns: need('high_freq_factor'),
    originalPositions: need('original_max_position_embeddings'),
  };
  if (scaling.highFrequencyTurns <= scaling.lowFrequencyTurns) {
    throw new UserError(
      `${sourceName}: high_freq_factor ${scaling.highFrequencyTurns} (${field}) must be above low_freq_factor ${scaling.lowFrequencyTurns}: get the model's own config.json`,
    );
  }
  return scaling;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Radians per position after scaling, for a frequency in radians per position before it. */
export function scaleFrequency(frequency: number, scaling: RopeScaling | null): number {
  if (scaling === null) return frequency;
  if (scaling.type === 'linear') return frequency / scaling.factor;
  const { factor: divisor, lowFrequencyTurns: low, highFrequencyTurns: high } = scaling;
  const turnsInContext = (scaling.originalPositions * frequency) / (2 * Math.PI);
  const kept = Math.min(1, Math.max(0, (turnsInContext - low) / (high - low)));
  return ((1 - kept) * frequency) / divisor + kept * frequency;
}

/** cos and sin of position x frequency, frequencies base^(-2 i / D) scaled: [T, D / 2] float32 each. */
export function rotaryTables(
  length: number,
  headDim: number,
  base: number,
  scaling: RopeScaling | null,
): [Value, Value] {
  const half = headDim / 2;
  const angles = Float64Array.from({ length: length * half }, (_, i) => {
    const frequency = scaleFrequency(base ** (-(i % half) / half), scaling);
    return Math.floor(i / half) * frequency;
  });
  const table = (f: (angle: number) => number): Value =>
    constant(Float32Array.from(angles, f), [length, half]);
  return [table(Math.cos), table(Math.sin)];
}

/** positions: [1, T] int32, tables: [any, D / 2] float32 -> the tables of T tokens there: [T, D / 2] each. */
export function tablesAt(positions: Value, tables: readonly [Value, Value]): [Value, Value] {
  const rows = (table: Value): Value =>
    reshape(gather(table, positions), [positions.shape[1]!, table.shape[1]!]);
  return [rows(tables[0]), rows(tables[1])];
}
