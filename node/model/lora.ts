/** Which layers of a model may carry a LoRA adapter, and whether an adapter fits a model. */
import type { LoraModule } from '../../protocol/adapter.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { decoderOf, type ModelConfig } from './families.js';
import type { AdapterShape } from './lora-graph.js';

export type { AdapterShape } from './lora-graph.js';

/** Shorthand for every linear layer but the output layer, as in PEFT. */
export const ALL_LINEAR = 'all-linear';
const OUTPUT_LAYER = 'lm_head';

/**
 * The layers that `targetModules` names, in the order of linearLayers: last parts of layer names
 * ("q_proj", "lm_head") or "all-linear" for all but lm_head. Throws UserError (wrong usage) for an
 * unknown or repeated name and for none.
 */
export function loraModules(config: ModelConfig, targetModules: readonly string[]): LoraModule[] {
  const layers = decoderOf(config).layers;
  const known = [...new Set(layers.map(({ name }) => lastPart(name)))];
  for (const [i, target] of targetModules.entries()) {
    if (target !== ALL_LINEAR && !known.includes(target)) {
      throw new UserError(
        `target module "${target}" is not a linear layer of this model: choose from ${known.join(', ')}, or ${ALL_LINEAR}`,
        EXIT_USAGE,
      );
    }
    if (targetModules.indexOf(target) !== i) {
      throw new UserError(`target module "${target}" is named twice: name it once`, EXIT_USAGE);
    }
  }
  if (targetModules.length === 0) {
    throw new UserError(
      `no target module is named: choose from ${known.join(', ')}, or ${ALL_LINEAR}`,
      EXIT_USAGE,
    );
  }
  return layers
    .filter(
      ({ name }) =>
        targetModules.includes(lastPart(name)) ||
        (targetModules.includes(ALL_LINEAR) && name !== OUTPUT_LAYER),
    )
    .map(({ name, inFeatures, outFeatures }) => ({ name, inFeatures, outFeatures }));
}

/**
 * Whether one graph can give the gradient of each of several examples: not with an adapter on the output layer, whose
 * gradient is computed without the logits' own.
 */
export function separatesExamples({ modules }: Pick<AdapterShape, 'modules'>): boolean {
  return modules.every(({ name }) => name !== OUTPUT_LAYER);
}

/** Throws UserError unless every adapter module is a layer of this model, with its features, once. */
export function checkAdapter(config: ModelConfig, { modules }: AdapterShape): void {
  const layers = new Map(decoderOf(config).layers.map((layer) => [layer.name, layer]));
  const seen = new Set<string>();
  for (const { name, inFeatures, outFeatures } of modules) {
    const layer = layers.get(name);
    if (layer === undefined || seen.has(name)) {
      throw new UserError(
        `the adapter has a module "${name}", ${layer === undefined ? 'which is no linear layer of this model' : 'twice'}: use the base model of the run`,
      );
    }
    if (layer.inFeatures !== inFeatures || layer.outFeatures !== outFeatures) {
      throw new UserError(
        `the adapter expects ${name} to be [${outFeatures}, ${inFeatures}], but in this model it is [${layer.outFeatures}, ${layer.inFeatures}]: use the base model of the run`,
      );
    }
    seen.add(name);
  }
}

function lastPart(name: string): string {
  return name.slice(name.lastIndexOf('.') + 1);
}
