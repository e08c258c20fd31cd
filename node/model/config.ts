/**
 * Reads the config.json of a model of any known family, as Transformers 5 or an older version wrote it.
 * A config is foreign bytes: every field is bounded.
 */
import { z } from 'zod';
import { UserError } from '../errors.js';
import { parseJson } from '../json-file.js';
import { object, text } from './config-fields.js';
import { readQuantisation, type Quantisation } from './quantised/method.js';
import { configReader, MODEL_TYPES, type ModelConfig } from './families.js';

export type { ModelConfig } from './families.js';

/** Bytes of a config.json: real ones have 1 to 5 KB. */
export const CONFIG_BYTES_MAX = 1024 * 1024;

/** Only what says which kind of model it is, so that an unknown kind is named as such. */
const kindSchema = z.looseObject(
  {
    model_type: text,
    // Models that read more than text keep their language model's config here.
    text_config: z.looseObject({ model_type: text }).optional().catch(undefined),
  },
  object,
);

/**
 * `sourceName` is what errors call the bytes, mostly the path of config.json.
 * Throws UserError: not JSON, a field missing or out of bounds, or a model of another kind.
 */
export function readModelConfig(bytes: string | Uint8Array, sourceName: string): ModelConfig {
  if (bytes.length > CONFIG_BYTES_MAX) {
    throw new UserError(
      `${sourceName} has ${bytes.length} bytes, more than the ${CONFIG_BYTES_MAX} of a model config: it is another kind of file`,
    );
  }
  const { model_type: modelType, text_config: part } = parseJson(bytes, sourceName, kindSchema);
  const read = configReader(modelType);
  if (read === undefined) {
    if (part !== undefined && MODEL_TYPES.includes(part.model_type)) {
      throw new UserError(
        `${sourceName}: model_type "${modelType}" reads more than text, which is not supported: save its text part, a "${part.model_type}", as a model of its own`,
      );
    }
    throw new UserError(
      `${sourceName}: model_type "${modelType}" is not supported; supported: ${MODEL_TYPES.join(', ')}`,
    );
  }
  return read(bytes, sourceName);
}

/** How the weights beside a config are quantised; null where they are plain numbers. Throws UserError as readModelConfig. */
export function quantisationOf(
  bytes: string | Uint8Array,
  sourceName: string,
): Quantisation | null {
  const schema = z.looseObject({ quantization_config: z.unknown().optional() }, object);
  return readQuantisation(parseJson(bytes, sourceName, schema).quantization_config, sourceName);
}
