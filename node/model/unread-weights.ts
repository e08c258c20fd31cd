/**
 * Finds what a model's files hold and its graph never reads. A head, a bias or a block that is left out in silence would
 * give another model than the one that was downloaded, and nothing would look wrong.
 */
import { decodeFloats } from '../engine/storage.js';
import { UserError } from '../errors.js';
import { decoderOf, type ModelConfig } from './families.js';
import { asPlain } from './quantised/open.js';
import {
  DTYPE_BYTES,
  readTensorPieces,
  type TensorEntry,
  type WeightIndex,
} from './safetensors.js';

/** Tables that older versions of Transformers kept beside the weights, which follow from the config. */
const HARMLESS = /(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$/;
/** The causal mask of a layer, in files of GPT-2. */
const HARMLESS_GPT2 = /^(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)$/;
export const HEAD = 'lm_head.weight';
export const EMBEDDINGS = ['model.embed_tokens.weight', 'transformer.wte.weight', 'wte.weight'];
/** Values that are compared in one go: 16 MiB as float32. */
const VALUES_MAX = 1 << 22;
/** Names that an error lists. */
const NAMES_SHOWN = 3;

/**
 * Throws UserError that names tensors which the model does not use, and for an output layer that is not the embeddings
 * although the config ties the two; also for a weight that is missing or of another shape.
 */
export async function checkEveryWeight(config: ModelConfig, weights: WeightIndex): Promise<void> {
  checkBlocks(config, weights);
  const plain = new Map([...weights].map(([name, entry]) => [name, asPlain(entry)]));
  const unread = decoderOf(config)
    .unread(plain)
    .filter((name) => !isHarmless(config, name));
  const head = weights.get(HEAD);
  const isTied = config.tieWordEmbeddings && head !== undefined;
  const others = unread.filter((name) => !isTied || name !== HEAD);
  const [first] = others;
  if (first !== undefined) {
    const more = others.length > NAMES_SHOWN ? ` and ${others.length - NAMES_SHOWN} more` : '';
    throw new UserError(
      `${weights.get(first)?.file} has ${others.length === 1 ? 'a tensor' : 'tensors'} that a ${config.architecture} model of this config.json does not use (${others.slice(0, NAMES_SHOWN).join(', ')}${more}): ` +
        "get the model's own config.json, or choose a model without such parts",
    );
  }
  if (isTied) await checkTied(head, weights);
}

function isHarmless({ architecture }: ModelConfig, name: string): boolean {
  return HARMLESS.test(name) || (architecture === 'gpt2' && HARMLESS_GPT2.test(name));
}

/** A config that stops short of the weights would give a cut model that computes, but badly. */
function checkBlocks({ layers }: ModelConfig, weights: WeightIndex): void {
  for (const [name, { file }] of weights) {
    const index = /(?:^|\.)(?:layers|h)\.(\d+)\./.exec(name)?.[1];
    if (index === undefined || Number(index) < layers) continue;
    throw new UserError(
      `${file} has the weight ${name}, but the model's config has only ${layers} layers: config.json and the weights are of different models`,
    );
  }
}

/** A file may hold the tied matrix twice; another matrix is a head that was trained. */
async function checkTied(head: TensorEntry, weights: WeightIndex): Promise<void> {
  const embedding = EMBEDDINGS.map((name) => weights.get(name)).find(
    (entry) => entry !== undefined,
  );
  if (embedding !== undefined && (await areEqual(head, embedding))) return;
  throw new UserError(
    `${head.file}: ${HEAD} is not the embeddings, but config.json says that the two are one (tie_word_embeddings): set it to false there if the output layer is to be used, or remove the tensor`,
  );
}

async function areEqual(a: TensorEntry, b: TensorEntry): Promise<boolean> {
  if (a.shape.join() !== b.shape.join()) return false;
  const theirs = piecesOf(b);
  try {
    for await (const mine of piecesOf(a)) {
      const other = await theirs.next();
      if (other.done === true || mine.length !== other.value.length) return false;
      if (mine.some((value, i) => value !== other.value[i])) return false;
    }
    return true;
  } finally {
    await theirs.return();
  }
}

async function* piecesOf(entry: TensorEntry): AsyncGenerator<Float32Array, void> {
  const { dtype } = entry;
  if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') return;
  const unit = DTYPE_BYTES[dtype];
  for await (const bytes of readTensorPieces(entry, unit, unit * VALUES_MAX)) {
    yield decodeFloats(bytes, dtype);
  }
}
