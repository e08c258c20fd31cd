/** A model directory with its frozen weights in a format, as training opens it; copies go to the usual cache. */
import { cacheDirectoryOf } from '../node/hub/endpoint.js';
import type { ModelDirectory } from '../node/model/model-directory.js';
import { openPackedWeights } from '../node/model/packed/open.js';
import type { WeightIndex } from '../node/model/safetensors.js';
import { WEIGHT_FORMATS, type WeightFormat } from '../node/model/weight-format.js';
import { EXIT_USAGE, UserError } from '../node/errors.js';

/** The formats in `text`, separated by commas. Throws UserError. */
export function parseFormats(flag: string, text: string): WeightFormat[] {
  return text.split(',').map((name) => {
    const format = WEIGHT_FORMATS.find((one) => one === name);
    if (format !== undefined) return format;
    throw new UserError(
      `${flag} is "${text}": give some of ${WEIGHT_FORMATS.join(', ')}, separated by commas`,
      EXIT_USAGE,
    );
  });
}

export async function openWeights(
  directory: ModelDirectory,
  format: WeightFormat,
): Promise<{ weights: WeightIndex; weightFormat: WeightFormat }> {
  const options = { directory, format, cacheDir: cacheDirectoryOf(process.env) };
  return { weights: await openPackedWeights(options), weightFormat: format };
}
