/** Bounds of the catalogue of a model's files: decoded from the bytes of somebody whose encoder checks nothing. */
import { decodeManifest } from '../../../protocol/manifest-codec.js';
import { decodeModelFiles, partCount } from '../../../protocol/model-files.js';
import { MODEL_PART_BYTES } from '../../../protocol/limits.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testRun } from '../../support/runs.js';
import { isTaken, isWithin, type LimitCase, type LimitName } from './limit-case.js';

const ROOT = new Uint8Array(32).fill(7);

function file(name: string, size = 1): wire.ModelFile {
  return { name, size, parts: Array.from({ length: partCount(size) }, () => ROOT) };
}

const config = file('config.json');
const tokenizer = file('tokenizer.json');

/** Whether a catalogue of these weights, in order, is taken. */
function decodes(sentence: RegExp, ...weights: wire.ModelFile[]): boolean {
  const files = [config, ...weights, tokenizer];
  return isTaken(sentence, () => decodeModelFiles(wire.ModelFiles.encode({ files })));
}

export const MODEL_CASES = {
  MODEL_PART_BYTES: {
    takes: (value) => decodes(/parts/, { ...file('m.safetensors', value), parts: [ROOT] }),
  },
  MODEL_FILES_MAX: {
    takes: (value) => {
      const digits = (i: number): string => String(i).padStart(5, '0');
      const weights = Array.from({ length: value - 2 }, (_, i) =>
        file(`m${digits(i)}.safetensors`),
      );
      return decodes(/files|protobuf/, ...weights);
    },
  },
  MODEL_FILE_NAME_LENGTH_MAX: {
    takes: (value) => {
      const end = '.safetensors';
      return decodes(
        /no model directory holds|128 are allowed/,
        file(`${'m'.repeat(value - end.length)}${end}`),
      );
    },
  },
  MODEL_BYTES_MAX: {
    // In two files: the parts of one alone have a bound of their own.
    takes: (value) => {
      const half = Math.floor(value / 2 / MODEL_PART_BYTES) * MODEL_PART_BYTES;
      const rest = value - half - config.size - tokenizer.size;
      return decodes(/bytes; at most/, file('m1.safetensors', half), file('m2.safetensors', rest));
    },
  },
  MODEL_CATALOGUE_BYTES_MAX: {
    takes: (value) => {
      const run = wire.Manifest.decode(testRun().bytes);
      const model = run.model ?? wire.Model.decode(new Uint8Array());
      const named = { ...run, model: { ...model, filesRoot: ROOT, filesBytes: value } };
      return (
        isWithin(/has \d+ bytes; at most/, () => decodeModelFiles(new Uint8Array(value))) &&
        isTaken(/filesBytes/, () => decodeManifest(wire.Manifest.encode(named)))
      );
    },
  },
} satisfies Partial<Record<LimitName, LimitCase>>;
