/** Packed copies in the cache: what they hold, and that a half, a damaged or a foreign one is never taken for whole. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import {
  appendFile,
  chmod,
  cp,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { decoderOf } from '../../../../node/model/families.js';
import { openModelDirectory, type ModelDirectory } from '../../../../node/model/model-directory.js';
import { packedLayout } from '../../../../node/model/packed/layout.js';
import {
  openPackedWeights,
  type PackedWeightsOptions,
} from '../../../../node/model/packed/open.js';
import {
  readTensorF32,
  writeSafetensors,
  type F32Tensor,
  type TensorEntry,
  type WeightIndex,
} from '../../../../node/model/safetensors.js';
import type { WeightFormat } from '../../../../node/model/weight-format.js';
import { bytesAt, turned, valuesOf } from '../../../support/packed-values.js';
import { RecordingDisk } from '../../../support/recording-disk.js';
import { referenceCase, Scratch, userError, type ReferenceCaseName } from '../fixtures.js';

const scratch = new Scratch(existsSync('/dev/shm') ? '/dev/shm' : undefined);
const children: ChildProcess[] = [];
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await scratch.remove();
});

async function caseCopy(name: ReferenceCaseName): Promise<string> {
  const dir = join(await scratch.directory(), name);
  await cp(join(referenceCase(name), 'base'), dir, { recursive: true });
  // The cases have no text.
  await writeFile(join(dir, 'tokenizer.json'), '{}');
  return dir;
}

interface Opened {
  weights: WeightIndex;
  said: string[];
  /** Numbers of the model that were packed; 0 for a copy that was there. */
  packed: number;
}

async function open(
  dir: string,
  format: WeightFormat,
  cacheDir: string,
  more: Partial<PackedWeightsOptions> = {},
): Promise<Opened> {
  const said: string[] = [];
  let packed = 0;
  const weights = await openPackedWeights({
    ...{ directory: await openModelDirectory(dir), format, cacheDir },
    say: (sentence) => said.push(sentence),
    onProgress: ({ done }) => (packed = done),
    ...more,
  });
  return { weights, said, packed };
}

/** The directory of the one copy in the cache. */
async function copyIn(cacheDir: string): Promise<string> {
  const root = join(cacheDir, 'murmurate', 'packed');
  const isCopy = (name: string): boolean => name !== 'hashes.json' && !name.includes('.tmp-');
  const [name, ...more] = (await readdir(root)).filter(isCopy);
  assert.ok(name !== undefined && more.length === 0, `${root} has not one copy`);
  return join(root, name);
}

function relativeError(a: Float32Array, b: Float32Array): number {
  let [difference, size] = [0, 0];
  assert.equal(a.length, b.length);
  for (let i = 0; i < a.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    size += b[i]! ** 2;
  }
  return Math.sqrt(difference / size);
}

/** Relative errors of the weights in each format: of random numbers, as PyTorch finds them too. */
const ERRORS: Readonly<Record<string, [number, number]>> = {
  I8: [0.002, 0.01],
  I4: [0.05, 0.13],
  BF16: [0.0005, 0.003],
};

describe('a packed copy', () => {
  for (const name of [
    'llama-gqa-tied',
    'llama-untied-bias',
    'gpt2',
    'phi3',
    'mistral-shards',
  ] as const) {
    for (const format of ['int8', 'int4', 'bf16'] as const) {
      it(`of ${name} as ${format} stands for the model's own weights`, async () => {
        const dir = await caseCopy(name);
        const { config, weights: own } = await openModelDirectory(dir);
        const { weights } = await open(dir, format, await scratch.directory());
        const packed = [...weights.values()].filter(({ file }) => !file.startsWith(dir));
        const layers = decoderOf(config).layers;
        for (const layer of layers) {
          const entry = weights.get(`${layer.name}.weight`);
          const source = own.get(`${layer.name}.weight`);
          assert.ok(entry && source);
          if (format === 'bf16') {
            assert.deepEqual(entry.shape, source.shape);
            assert.equal(packed.includes(entry), source.dtype === 'F32');
          } else {
            assert.deepEqual(entry.shape, [layer.outFeatures, layer.inFeatures]);
            const isHead = layer.name === 'lm_head';
            assert.equal(entry.dtype, format === 'int8' || isHead ? 'I8' : 'I4');
          }
        }
        for (const entry of packed) {
          const isHead = entry.name === 'lm_head.weight' && config.tieWordEmbeddings;
          const table = name === 'gpt2' ? 'transformer.wte.weight' : 'model.embed_tokens.weight';
          const source = own.get(isHead ? table : entry.name)!;
          const values = await readTensorF32(source);
          const isTurned =
            format !== 'bf16' &&
            layers.some((layer) => layer.transposed && `${layer.name}.weight` === entry.name);
          const expected = isTurned ? turned(values, source.shape) : values;
          const [least, most] = ERRORS[entry.dtype]!;
          const error = relativeError(await valuesOf(entry), expected);
          assert.ok(error > least && error < most, `${entry.name}: ${error}`);
        }
        // Norms, biases and embeddings stay where they are.
        const isSame = (entry: TensorEntry): boolean =>
          own.get(entry.name)?.offset === entry.offset;
        assert.ok([...weights.values()].every((entry) => packed.includes(entry) || isSame(entry)));
        assert.equal(weights.has('lm_head.weight'), format !== 'bf16' || !config.tieWordEmbeddings);
      });
    }
  }

  it('is not needed for fp32, nor for bf16 of files with 16 bits', async () => {
    const dir = await scratch.tinyBase();
    const directory = await openModelDirectory(dir);
    for (const format of ['fp32', 'bf16'] as const) {
      const cacheDir = await scratch.directory();
      const weights = await openPackedWeights({ directory, format, cacheDir });
      assert.equal(weights, directory.weights);
      assert.deepEqual(await readdir(cacheDir), []);
    }
  });

  it('has blocks of 64 in large models and of 32 in small ones, and whole bytes for every row', async () => {
    const { config } = await openModelDirectory(await caseCopy('llama-untied-bias'));
    const sizes = { hiddenSize: 2048, intermediateSize: 101, layers: 1, vocabSize: 7 };
    const large = {
      ...config,
      ...sizes,
      headDim: 8,
      heads: 2,
      keyValueHeads: 1,
      attentionBias: false,
    } as ModelDirectory['config'];
    const weights = new Map(
      decoderOf(large).layers.map(({ name, inFeatures, outFeatures }): [string, TensorEntry] => [
        `${name}.weight`,
        {
          name,
          dtype: 'BF16',
          shape: [outFeatures, inFeatures],
          file: '',
          offset: 0,
          length: 2 * inFeatures * outFeatures,
        },
      ]),
    );
    const tensors = packedLayout({ config: large, weights }, 'int4')!.tensors;
    const summary = (part: string): unknown => {
      const found = tensors.find(({ source }) => source.name.includes(part))!;
      return [found.dtype, found.scales?.block];
    };
    assert.deepEqual(summary('q_proj'), ['I4', 64]);
    // Rows of 16 codes, of 101 codes, and the output layer.
    assert.deepEqual(summary('o_proj'), ['I4', 16]);
    assert.deepEqual(summary('down_proj'), ['I8', 101]);
    assert.deepEqual(summary('lm_head'), ['I8', 2048]);
    const small = packedLayout(await openModelDirectory(await caseCopy('gpt2')), 'int4')!.tensors;
    assert.ok(small.every(({ dtype, scales }) => dtype === 'I8' || scales?.block === 32));
  });

  it('has no code beyond the largest that is asked for, and is another copy then', async () => {
    const dir = await scratch.tinyBase();
    const cacheDir = await scratch.directory();
    const files = new Set<string>();
    for (const largestCode of [127, 63] as const) {
      const { weights } = await open(dir, 'int8', cacheDir, { largestCode });
      const entry = weights.get('model.layers.0.mlp.down_proj.weight')!;
      files.add(entry.file);
      const codes = new Int8Array((await bytesAt(entry)).buffer);
      const sizes = codes.map(Math.abs);
      assert.equal(
        sizes.reduce((most, size) => Math.max(most, size), 0),
        largestCode,
      );
    }
    assert.equal(files.size, 2);
  });

  it('is made once, by whoever comes first, whatever the directory is called', async () => {
    const dir = await scratch.tinyBase();
    const cacheDir = await scratch.directory();
    await open(dir, 'int8', cacheDir);
    const lock = await lockedByAnother(cacheDir);
    const said: string[] = [];
    const say = (sentence: string): void => {
      said.push(sentence);
      if (said.length === 2) rmSync(lock, { recursive: true });
    };
    const both = await Promise.all([0, 1].map(() => open(dir, 'int8', cacheDir, { say })));
    assert.deepEqual(both.map(({ packed }) => packed > 0).sort(), [false, true]);
    const waiting = 'another process is packing tiny-base as int8; waiting for it';
    assert.deepEqual(said, [waiting, waiting]);
    assert.deepEqual(both[0]!.weights, both[1]!.weights);
    const other = join(await scratch.directory(), 'other-name');
    await cp(dir, other, { recursive: true });
    const again = await open(other, 'int8', cacheDir);
    assert.deepEqual([again.packed, again.said], [0, []]);
    assert.equal((await open(dir, 'int4', cacheDir)).packed > 0, true, 'another format');
  });

  it('can be read by those who may read the model, and written by nobody', async () => {
    for (const [dirMode, fileMode, expectedDir, expectedFile] of [
      [0o755, 0o644, 0o755, 0o444],
      [0o700, 0o644, 0o700, 0o400],
      [0o755, 0o600, 0o700, 0o400],
      [0o750, 0o640, 0o750, 0o440],
    ] as const) {
      const dir = await scratch.tinyBase();
      await chmod(dir, dirMode);
      await chmod(join(dir, 'model.safetensors'), fileMode);
      const cacheDir = await scratch.directory();
      await open(dir, 'int8', cacheDir);
      const copy = await copyIn(cacheDir);
      assert.equal((await stat(copy)).mode & 0o777, expectedDir);
      for (const name of ['weights.bin', 'manifest.json']) {
        assert.equal((await stat(join(copy, name))).mode & 0o777, expectedFile);
      }
    }
  });
});

/** Removes the one copy, and takes its lock as another process would. */
async function lockedByAnother(cacheDir: string): Promise<string> {
  const copy = await copyIn(cacheDir);
  await rm(copy, { recursive: true });
  const lock = join(cacheDir, '.locks', 'murmurate', 'packed', `${basename(copy)}.lock`);
  await mkdir(lock);
  return lock;
}

async function flip(path: string, at: number): Promise<void> {
  await chmod(path, 0o600);
  const bytes = await readFile(path);
  bytes[at]! ^= 1;
  await writeFile(path, bytes);
}

describe('a packed copy that cannot be used', () => {
  const flaws: [string, (copy: string) => Promise<void>, RegExp][] = [
    ['without its manifest', (copy) => rm(join(copy, 'manifest.json')), /has no manifest/],
    [
      'with half a manifest',
      async (copy) => {
        await chmod(join(copy, 'manifest.json'), 0o600);
        await truncate(join(copy, 'manifest.json'), 200);
      },
      /has a damaged manifest/,
    ],
    ['without its weights', (copy) => rm(join(copy, 'weights.bin')), /has lost its weights/],
    [
      'that was cut short',
      async (copy) => {
        await chmod(join(copy, 'weights.bin'), 0o600);
        await truncate(join(copy, 'weights.bin'), 70_000);
      },
      /has 70000 instead of \d+ bytes/,
    ],
    ['that was changed', (copy) => flip(join(copy, 'weights.bin'), 12_345), /was changed/],
    [
      'of another version',
      (copy) => edit(copy, '"version":1', '"version":0'),
      /is of version 0 instead of 1/,
    ],
    [
      'with the manifest of another',
      (copy) => edit(copy, '"block":32', '"block":16'),
      /has the manifest of another/,
    ],
  ];
  const edit = async (copy: string, from: string, to: string): Promise<void> => {
    const path = join(copy, 'manifest.json');
    await chmod(path, 0o600);
    const text = await readFile(path, 'utf8');
    assert.ok(text.includes(from));
    await writeFile(path, text.replace(from, to));
  };

  for (const [what, damage, sentence] of flaws) {
    it(`${what} is made again, with one sentence`, async () => {
      const dir = await caseCopy('llama-gqa-tied');
      const cacheDir = await scratch.directory();
      const first = await open(dir, 'int4', cacheDir);
      const copy = await copyIn(cacheDir);
      const whole = await readFile(join(copy, 'weights.bin'));
      await damage(copy);
      const second = await open(dir, 'int4', cacheDir);
      assert.equal(second.packed, first.packed);
      assert.equal(second.said.length, 1);
      assert.match(second.said[0]!, sentence);
      assert.match(second.said[0]!, /^the packed copy \S+ [^\n]+: making it again$/);
      assert.deepEqual(await readFile(join(copy, 'weights.bin')), whole);
      assert.equal((await open(dir, 'int4', cacheDir)).packed, 0);
    });
  }

  it('is not one that was only moved: it is read once, and then known again', async () => {
    const dir = await caseCopy('gpt2');
    const cacheDir = await scratch.directory();
    await open(dir, 'int8', cacheDir);
    const copy = await copyIn(cacheDir);
    const then = new Date(Date.now() - 3_600_000);
    await utimes(join(copy, 'weights.bin'), then, then);
    const again = await open(dir, 'int8', cacheDir);
    assert.deepEqual([again.packed, again.said], [0, []]);
    const { mtimeNs } = JSON.parse(await readFile(join(copy, 'manifest.json'), 'utf8')) as {
      mtimeNs: string;
    };
    assert.equal(
      mtimeNs,
      String((await stat(join(copy, 'weights.bin'), { bigint: true })).mtimeNs),
    );
  });

  it('of an older version is removed when another is made', async () => {
    const cacheDir = await scratch.directory();
    await open(await caseCopy('gpt2'), 'int8', cacheDir);
    const old = await copyIn(cacheDir);
    await edit(old, '"version":1', '"version":0');
    await open(await caseCopy('qwen2'), 'int8', cacheDir);
    assert.equal(existsSync(old), false);
    assert.ok(existsSync(join(await copyIn(cacheDir), 'weights.bin')));
  });
});

describe('packing', () => {
  it('is refused where a file of the model changes meanwhile, and leaves nothing', async () => {
    const changes: [string, (file: string) => Promise<void>][] = [
      ['is written to', (file) => appendFile(file, 'x')],
      ['is touched', (file) => utimes(file, new Date(0), new Date(0))],
      [
        'is replaced',
        async (file) => {
          await cp(file, `${file}.new`, { preserveTimestamps: true });
          await rename(`${file}.new`, file);
        },
      ],
    ];
    for (const [what, change] of changes) {
      const dir = await caseCopy('qwen2');
      const file = join(dir, 'model.safetensors');
      const cacheDir = await scratch.directory();
      const changing: Promise<void>[] = [];
      const onProgress = (): void => {
        if (changing.length === 0) changing.push(change(file));
      };
      const directory = await openModelDirectory(dir);
      const options: PackedWeightsOptions = { directory, format: 'int4', cacheDir, onProgress };
      await assert.rejects(
        openPackedWeights(options),
        userError(/model\.safetensors changed while its weights were packed: leave it alone/),
        what,
      );
      await Promise.all(changing);
      assert.deepEqual(await readdir(join(cacheDir, 'murmurate', 'packed')), []);
    }
  });

  it('names the weight that holds NaN, infinity or what bfloat16 has no number for', async () => {
    const cases: [WeightFormat, number, RegExp][] = [
      ['int8', NaN, /holds NaN or infinity/],
      ['int4', -Infinity, /holds NaN or infinity/],
      ['bf16', NaN, /holds NaN or infinity/],
      ['bf16', 3.4e38, /holds a number that is too large for bfloat16/],
    ];
    for (const [format, bad, sentence] of cases) {
      const dir = await caseCopy('qwen2');
      const file = join(dir, 'model.safetensors');
      const { weights } = await openModelDirectory(dir);
      const name = 'model.layers.1.mlp.up_proj.weight';
      const tensors: F32Tensor[] = [];
      for (const entry of weights.values()) {
        tensors.push({ name: entry.name, shape: entry.shape, data: await readTensorF32(entry) });
      }
      const broken = tensors.find((tensor) => tensor.name === name)!;
      broken.data[5 * broken.shape[1]! + 3] = bad;
      await writeSafetensors(file, tensors, {});
      const cacheDir = await scratch.directory();
      await assert.rejects(open(dir, format, cacheDir), (error: Error) => {
        assert.ok(userError(sentence)(error), error.message);
        return error.message.includes(name) && error.message.includes('output feature 6 of 80');
      });
      assert.deepEqual(await readdir(join(cacheDir, 'murmurate', 'packed')), []);
    }
  });

  it('looks for room on the disk first, and says how much it needs, what is free, and where', async () => {
    const dir = await caseCopy('llama-untied-bias');
    const config = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    const shape = {
      hidden_size: 65_536,
      intermediate_size: 1 << 20,
      num_hidden_layers: 40,
      vocab_size: 256,
      num_attention_heads: 1,
      num_key_value_heads: 1,
      head_dim: 128,
      attention_bias: false,
    };
    await writeFile(join(dir, 'config.json'), JSON.stringify({ ...config, ...shape }));
    const file = join(dir, 'model.safetensors');
    await rm(file);
    const directory = await hollowModel(dir, file);
    const cacheDir = await scratch.directory();
    // What is not there is not read: its hash is remembered.
    const hashCacheFile = join(cacheDir, 'hashes.json');
    const { size, mtimeNs } = await stat(file, { bigint: true });
    const known = { size: String(size), mtimeNs: String(mtimeNs), sha256: 'ab'.repeat(32) };
    await writeFile(hashCacheFile, JSON.stringify({ [file]: known }));
    await assert.rejects(
      openPackedWeights({ directory, format: 'int8', cacheDir, hashCacheFile }),
      userError(
        /^the int8 copy of llama-untied-bias needs \d+\.\d\d GB on the disk of \S+packed, which has [\d.]+ GB left: free some space, or set HF_HUB_CACHE/,
      ),
    );
  });

  it('says what to do where the cache cannot be written', async () => {
    const dir = await caseCopy('gpt2');
    const cacheDir = join(await scratch.directory(), 'cache');
    await mkdir(cacheDir);
    await writeFile(join(cacheDir, 'murmurate'), 'a file');
    await assert.rejects(
      open(dir, 'int8', cacheDir),
      userError(
        /packed, where gpt2 as int8 goes, cannot be written \((EEXIST|ENOTDIR)\): set HF_HUB_CACHE to a directory/,
      ),
    );
  });

  it('stops when it is told to, and leaves nothing', async () => {
    const dir = await scratch.tinyBase();
    const cacheDir = await scratch.directory();
    const stop = new AbortController();
    const reason = new Error('stop');
    const opening = open(dir, 'int4', cacheDir, {
      signal: stop.signal,
      onProgress: () => stop.abort(reason),
    });
    await assert.rejects(opening, (error) => error === reason);
    assert.deepEqual(await readdir(join(cacheDir, 'murmurate', 'packed')), []);
    await assert.rejects(
      open(dir, 'int4', cacheDir, { signal: stop.signal }),
      (error) => error === reason,
    );
    // Nor does it wait for another process then.
    await open(dir, 'int4', cacheDir);
    const lock = await lockedByAnother(cacheDir);
    const late = new AbortController();
    const waiting = open(dir, 'int4', cacheDir, {
      signal: late.signal,
      say: () => late.abort(reason),
    });
    await assert.rejects(waiting, (error) => error === reason);
    await rm(lock, { recursive: true });
  });
});

/** The headers of a model whose bytes are a hole in a file. */
async function hollowModel(dir: string, file: string): Promise<ModelDirectory> {
  const { readModelConfig } = await import('../../../../node/model/config.js');
  const config = readModelConfig(await readFile(join(dir, 'config.json')), 'config.json');
  const weights = new Map<string, TensorEntry>();
  let offset = 0;
  for (const { name: layer, inFeatures, outFeatures } of decoderOf(config).layers) {
    const name = `${layer}.weight`;
    const length = 2 * inFeatures * outFeatures;
    weights.set(name, {
      name,
      dtype: 'BF16',
      shape: [outFeatures, inFeatures],
      file,
      offset,
      length,
    });
    offset += length;
  }
  await writeFile(file, 'the start');
  const past = new Date(Date.now() - 60_000);
  await utimes(file, past, past);
  return { dir, name: 'llama-untied-bias', config, weights, tokenizerFile: '' };
}

describe('a process that is killed while it packs', () => {
  it('leaves nothing that is taken for whole, wherever it was', async () => {
    const dir = await caseCopy('mistral');
    const { count, whole } = await recorded(dir, await scratch.directory(), () => null);
    assert.ok(whole);
    // At its end every instant, before that some of the writes.
    const instants = Array.from({ length: count }, (_, i) => i).filter(
      (i) => i > count - 10 || i % 15 === 0,
    );
    let again = 0;
    for (const instant of instants) {
      const cacheDir = await scratch.directory();
      await recorded(dir, cacheDir, (index) => (index === instant ? 'kill' : null));
      await rm(join(cacheDir, '.locks'), { recursive: true, force: true });
      const { packed, said } = await open(dir, 'int8', cacheDir);
      again += packed > 0 ? 1 : 0;
      assert.deepEqual(said, [], `killed at ${instant} of ${count}`);
      assert.deepEqual(await readFile(join(await copyIn(cacheDir), 'weights.bin')), whole);
    }
    // After the rename only the folder is synced.
    assert.ok(again < instants.length && again > instants.length - 4, `${again}`);
  });

  it('is not the only one that leaves nothing: a full disk is said, wherever it became full', async () => {
    const dir = await caseCopy('mistral');
    for (const nth of [0, 1, 9, 30]) {
      const cacheDir = await scratch.directory();
      let writes = 0;
      const isFull = (name: string): boolean =>
        name.startsWith('write') && name.endsWith('weights.bin') && writes++ === nth;
      await assert.rejects(
        recorded(dir, cacheDir, (_, name) =>
          isFull(name) ? { errno: 'ENOSPC', halfWritten: true } : null,
        ),
        userError(
          /packed, where mistral as int8 goes, cannot be written \(ENOSPC\): the disk is full: free/,
        ),
      );
      const left = await readdir(join(cacheDir, 'murmurate', 'packed'));
      assert.deepEqual(
        left.filter((name) => name !== 'hashes.json'),
        [],
      );
    }
  });

  it('is one that others do not wait for', async () => {
    const dir = await caseCopy('mistral');
    const cacheDir = await scratch.directory();
    const child = await packingProcess(dir, cacheDir);
    const root = join(cacheDir, 'murmurate', 'packed');
    const left = (await readdir(root)).filter((name) => name.includes('.tmp-'));
    assert.equal(left.length, 1);
    child.kill('SIGKILL');
    await once(child, 'exit');
    // Its lock is stale after ten seconds: as if they had passed.
    const locks = join(cacheDir, '.locks', 'murmurate', 'packed');
    const long = new Date(Date.now() - 60_000);
    for (const name of await readdir(locks)) await utimes(join(locks, name), long, long);
    const { packed, said } = await open(dir, 'int4', cacheDir);
    assert.ok(packed > 0);
    assert.deepEqual(said, []);
    assert.ok(!existsSync(join(root, left[0]!)), 'what it left is removed');
    await copyIn(cacheDir);
  });
});

/** Packs as int8 on a disk with faults. Returns how many operations that took, and the file; null where it was killed. */
async function recorded(
  dir: string,
  cacheDir: string,
  faultAt: RecordingDisk['faultAt'],
): Promise<{ count: number; whole: Uint8Array | null }> {
  const recording = new RecordingDisk();
  recording.faultAt = faultAt;
  let isKilled = false;
  try {
    isKilled = await Promise.race([
      open(dir, 'int8', cacheDir).then(() => false),
      recording.killed.then(() => true),
    ]);
    const { count } = recording;
    if (isKilled) return { count, whole: null };
    return { count, whole: await readFile(join(await copyIn(cacheDir), 'weights.bin')) };
  } finally {
    if (isKilled) await recording.revive();
    recording.close();
  }
}

const OPEN = new URL('../../../../node/model/packed/open.js', import.meta.url).href;
const DIRECTORY = new URL('../../../../node/model/model-directory.js', import.meta.url).href;

/** A process that stands still in the middle of packing. */
async function packingProcess(dir: string, cacheDir: string): Promise<ChildProcess> {
  const program = `
    const { openPackedWeights } = await import(${JSON.stringify(OPEN)});
    const { openModelDirectory } = await import(${JSON.stringify(DIRECTORY)});
    const { writeSync } = await import('node:fs');
    const directory = await openModelDirectory(${JSON.stringify(dir)});
    await openPackedWeights({
      directory, format: 'int4', cacheDir: ${JSON.stringify(cacheDir)},
      onProgress: () => {
        writeSync(1, 'packing');
        for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
      },
    });`;
  const args = [...process.execArgv, '--input-type=module', '--eval', program];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}
