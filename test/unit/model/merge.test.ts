import assert from 'node:assert/strict';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { decodeFloats } from '../../../node/engine/storage.js';
import { ortExecutor } from '../../../node/engine/ort.js';
import { readModelConfig } from '../../../node/model/config.js';
import { encodeFloats } from '../../../node/model/encode-floats.js';
import { writeMergedModel, type MergeOptions } from '../../../node/model/merge.js';
import { openNextTokenModel } from '../../../node/model/next-token-model.js';
import { readPeftAdapter } from '../../../node/model/peft.js';
import { readSafetensorsHeader, readTensorF32 } from '../../../node/model/safetensors.js';
import { openWeights } from '../../../node/model/weight-index.js';
import { REFERENCE_CASES, referenceCase, Scratch, userError } from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());
const TOKENS = [3, 14, 15, 9, 2, 6, 5, 35, 8, 9, 7, 9];
const BOUND = 2e-4;
const never = new AbortController().signal;
const ignore = (): void => undefined;

async function optionsFor(dir: string, adapterDir: string): Promise<MergeOptions> {
  const path = join(dir, 'config.json');
  const config = readModelConfig(await readFile(path), path);
  const { rank, alpha, modules, theta } = await readPeftAdapter(adapterDir);
  const adapter = { rank, alpha, modules };
  const weights = await openWeights(dir);
  return { dir, config, weights, adapter, theta, dtype: null, onProgress: ignore, signal: never };
}

/** Logits after the last of TOKENS. */
async function logits(options: MergeOptions): Promise<Float32Array> {
  const executor = ortExecutor({ threads: 1 });
  const capacity = TOKENS.length;
  const model = await openNextTokenModel({ ...options, executor, capacity, chunk: capacity });
  try {
    return await model.read(TOKENS);
  } finally {
    await model.dispose();
  }
}

/** The merged model with an adapter that changes nothing. */
async function merged(dir: string, options: MergeOptions): Promise<MergeOptions> {
  const path = join(dir, 'config.json');
  const config = readModelConfig(await readFile(path), path);
  const theta = new Float32Array(options.theta.length);
  return { ...options, dir, config, weights: await openWeights(dir), theta };
}

function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((worst, value, i) => Math.max(worst, Math.abs(value - b[i]!)), 0);
}

describe('writeMergedModel', () => {
  for (const name of REFERENCE_CASES) {
    it(`${name}: the merged model has the logits of base and adapter`, async (t: TestContext) => {
      const base = join(referenceCase(name), 'base');
      const options = await optionsFor(base, join(referenceCase(name), 'adapter'));
      const target = join(await scratch.directory(), 'merged');
      await writeMergedModel(target, { ...options, dtype: 'fp32' });
      const expected = await logits(options);
      const worst = largestDifference(await logits(await merged(target, options)), expected);
      t.diagnostic(`largest difference ${worst.toExponential(1)}`);
      assert.ok(worst <= BOUND, String(worst));
      const without = await logits({ ...options, theta: new Float32Array(options.theta.length) });
      assert.ok(largestDifference(without, expected) > 10 * BOUND, 'the adapter counts');
      assert.deepEqual(await readdir(target), await readdir(base), 'the same files');
    });
  }

  it("rounds to the base's own type where no other is asked for", async () => {
    const base = join(referenceCase('mistral-shards'), 'base');
    const options = await optionsFor(base, join(referenceCase('mistral-shards'), 'adapter'));
    const target = join(await scratch.directory(), 'merged');
    await writeMergedModel(target, options);
    const types = async (dir: string): Promise<string[]> =>
      [...(await openWeights(dir)).values()].map(
        ({ name, dtype, file }) => `${name} ${dtype} ${basename(file)}`,
      );
    assert.deepEqual(await types(target), await types(base));
    const worst = largestDifference(
      await logits(await merged(target, options)),
      await logits(options),
    );
    assert.ok(worst > 0 && worst < 5e-3, String(worst));
  });

  describe('of a small Llama', () => {
    const base = join(referenceCase('llama-gqa-tied'), 'base');
    const adapter = join(referenceCase('llama-gqa-tied'), 'adapter');
    let options: MergeOptions;
    before(async () => {
      options = await optionsFor(base, adapter);
    });

    for (const [dtype, torch, bound] of [
      ['bf16', 'bfloat16', 2 ** -8],
      ['fp16', 'float16', 2 ** -11],
      ['fp32', 'float32', 2 ** -24],
    ] as const) {
      it(`stores ${dtype} rounded to nearest, and says so in the config`, async () => {
        const [exact, target] = [
          join(await scratch.directory(), 'a'),
          join(await scratch.directory(), 'b'),
        ];
        await writeMergedModel(exact, { ...options, dtype: 'fp32' });
        await writeMergedModel(target, { ...options, dtype });
        const wanted = await openWeights(exact);
        for (const [name, entry] of await openWeights(target)) {
          assert.equal(entry.dtype, dtype.toUpperCase().replace('FP', 'F'));
          const [stored, full] = [
            await readTensorF32(entry),
            await readTensorF32(wanted.get(name)!),
          ];
          for (const [i, value] of stored.entries()) {
            const error = Math.abs(value - full[i]!);
            assert.ok(
              error <= bound * Math.abs(full[i]!) + 2 ** -25,
              `${name}: ${value} for ${full[i]}`,
            );
          }
        }
        const config = JSON.parse(await readFile(join(target, 'config.json'), 'utf8')) as object;
        assert.ok('dtype' in config && config.dtype === torch, JSON.stringify(config));
        const { metadata } = await readSafetensorsHeader(join(target, 'model.safetensors'));
        assert.deepEqual(metadata, { format: 'pt' });
      });
    }

    it('leaves weights without an adapter byte for byte as they are', async () => {
      const target = join(await scratch.directory(), 'merged');
      await writeMergedModel(target, options);
      const name = 'model.embed_tokens.weight';
      const bytes = async (dir: string): Promise<Buffer> => {
        const { file, offset, length } = (await openWeights(dir)).get(name)!;
        return (await readFile(file)).subarray(offset, offset + length);
      };
      assert.deepEqual(await bytes(target), await bytes(base));
    });

    it('refuses a directory that is there, and leaves nothing where it fails or is stopped', async () => {
      const place = await scratch.directory();
      const target = join(place, 'merged');
      await mkdir(target);
      await assert.rejects(writeMergedModel(target, options), userError(/is there already/));
      await writeFile(join(place, 'file'), '');
      await assert.rejects(
        writeMergedModel(join(place, 'file'), options),
        userError(/is there already/),
      );
      const stopped = { ...options, signal: AbortSignal.abort() };
      await assert.rejects(writeMergedModel(join(place, 'other'), stopped), { name: 'AbortError' });
      const loud = { ...options, dtype: 'fp16' as const, theta: options.theta.map(() => 1e4) };
      await assert.rejects(
        writeMergedModel(join(place, 'other'), loud),
        userError(/weight .* has a value that float16 cannot hold: give another --dtype/),
      );
      assert.deepEqual((await readdir(place)).sort(), ['file', 'merged']);
    });

    it('refuses the adapter of another model', async () => {
      const other = await optionsFor(
        join(referenceCase('qwen3'), 'base'),
        join(referenceCase('qwen3'), 'adapter'),
      );
      const target = join(await scratch.directory(), 'merged');
      await assert.rejects(
        writeMergedModel(target, { ...options, adapter: other.adapter, theta: other.theta }),
        userError(/use the base model of the run/),
      );
    });

    it('refuses an adapter that is not finite', async () => {
      const target = join(await scratch.directory(), 'merged');
      const theta = options.theta.slice();
      theta[4] = Infinity;
      await assert.rejects(
        writeMergedModel(target, { ...options, theta }),
        userError(/the adapter to merge holds infinity \(value 5 of/),
      );
      await assert.rejects(readdir(target), /ENOENT/);
    });

    it('takes tokenizer and templates along, and no other files', async () => {
      const dir = join(await scratch.directory(), 'base');
      await cp(base, dir, { recursive: true });
      for (const file of [
        'tokenizer.json',
        'chat_template.jinja',
        'LICENSE',
        'notes.md',
        'x.bin',
      ]) {
        await writeFile(join(dir, file), file);
      }
      const target = join(await scratch.directory(), 'merged');
      await writeMergedModel(target, await optionsFor(dir, adapter));
      assert.deepEqual((await readdir(target)).sort(), [
        ...['LICENSE', 'chat_template.jinja', 'config.json', 'generation_config.json'],
        ...['model.safetensors', 'tokenizer.json'],
      ]);
    });
  });
});

describe('encodeFloats', () => {
  it('is undone by decodeFloats for every bfloat16 and binary16 that is finite', () => {
    for (const storage of ['BF16', 'F16'] as const) {
      const bytes = new Uint8Array(Uint16Array.from({ length: 0x10000 }, (_, i) => i).buffer);
      const values = decodeFloats(bytes, storage).filter(Number.isFinite);
      const again = decodeFloats(new Uint8Array(encodeFloats(values, storage)!), storage);
      for (const [i, value] of values.entries())
        assert.ok(Object.is(again[i], value), String(value));
    }
  });

  it('rounds ties to even, and refuses what would be infinite', () => {
    const encode = (value: number, storage: 'F16' | 'BF16'): number | null => {
      const bytes = encodeFloats(Float32Array.of(value), storage);
      return bytes === null ? null : decodeFloats(new Uint8Array(bytes), storage)[0]!;
    };
    assert.equal(encode(1 + 2 ** -11, 'F16'), 1);
    assert.equal(encode(1 + 3 * 2 ** -11, 'F16'), 1 + 2 ** -9);
    assert.equal(encode(65_519, 'F16'), 65_504);
    assert.equal(encode(65_520, 'F16'), null);
    assert.equal(encode(-(1 + 2 ** -8), 'BF16'), -1);
    assert.equal(encode(1 + 3 * 2 ** -8, 'BF16'), 1 + 2 ** -6);
    assert.equal(encode(3.4e38, 'BF16'), null);
    assert.equal(encode(NaN, 'F16'), null);
  });
});
