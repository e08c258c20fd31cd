/** generation_config.json: what its makers say ends a text of the model, beside the end-of-text token of its config. */
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson, readFileIfThere } from '../json-file.js';

const FILE = 'generation_config.json';
/** Bytes: real ones have less than 1 KB. */
const BYTES_MAX = 1024 * 1024;

const tokenId = z.int({ error: 'but must be a token id' }).min(0);
const schema = z.looseObject(
  {
    eos_token_id: z
      .union([tokenId, z.array(tokenId).max(64)], {
        error: 'but must be a token id or a list of at most 64 token ids',
      })
      .nullish(),
  },
  { error: 'but must be a JSON object' },
);

/** Ids that end a text; none where the file is missing. Throws UserError when it is damaged. */
export async function readGenerationEnds(modelDir: string): Promise<number[]> {
  const path = join(modelDir, FILE);
  const bytes = await readFileIfThere(path, BYTES_MAX, 'the generation config');
  if (bytes === null) return [];
  const { eos_token_id: ends } = parseJson(bytes, path, schema);
  if (ends === undefined || ends === null) return [];
  return typeof ends === 'number' ? [ends] : ends;
}
