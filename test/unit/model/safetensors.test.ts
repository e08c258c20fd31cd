import assert from 'node:assert/strict';
import { readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { UserError } from '../../../node/errors.js';
import {
  readSafetensorsHeader,
  readTensorF32,
  writeSafetensors,
} from '../../../node/model/safetensors.js';
import { referenceCase, Scratch, TINY_BASE, userError } from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>;

/** A file with this header and so many bytes after it. */
async function fileWith(header: Header | string, data: Uint8Array | number): Promise<string> {
  const path = join(await scratch.directory(), 'x.safetensors');
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  const tail = typeof data === 'number' ? Buffer.alloc(data) : data;
  await writeFile(path, Buffer.concat([prefix, json, tail]));
  return path;
}

async function refuses(header: Header | string, bytes: number, pattern: RegExp): Promise<void> {
  await assert.rejects(readSafetensorsHeader(await fileWith(header, bytes)), userError(pattern));
}

describe('readSafetensorsHeader', () => {
  it('reads what PyTorch wrote', async () => {
    const file = join(TINY_BASE, 'model.safetensors');
    const { tensors, metadata } = await readSafetensorsHeader(file);
    assert.equal(tensors.length, 56);
    assert.deepEqual(metadata, { format: 'pt' });
    assert.deepEqual(tensors[0], {
      name: 'model.embed_tokens.weight',
      dtype: 'BF16',
      shape: [4096, 256],
      file,
      offset: 6048,
      length: 4096 * 256 * 2,
    });
  });

  it('refuses a file cut anywhere', async () => {
    const whole = await readFile(
      join(referenceCase('llama-untied-bias'), 'adapter', 'adapter_model.safetensors'),
    );
    const path = join(await scratch.directory(), 'cut.safetensors');
    for (const bytes of [0, 7, 8, 100, 1511, 1512, whole.length - 1]) {
      await writeFile(path, whole);
      await truncate(path, bytes);
      await assert.rejects(readSafetensorsHeader(path), userError(/is cut short, get it again/));
    }
    await writeFile(path, Buffer.concat([whole, Buffer.alloc(1)]));
    await assert.rejects(readSafetensorsHeader(path), userError(/accounts for only .* damaged/));
  });

  it('refuses what is no safetensors file', async () => {
    const path = join(await scratch.directory(), 'pointer.safetensors');
    await writeFile(path, 'version https://git-lfs.example/spec/v1\noid sha256:00\nsize 12\n');
    await assert.rejects(
      readSafetensorsHeader(path),
      userError(/claims a header .* no safetensors/),
    );
    await assert.rejects(
      readSafetensorsHeader(join(path, '..', 'gone')),
      userError(/gone .* does not exist: check the path/),
    );
    await refuses('not json', 0, /the header of .* is not valid JSON/);
    await refuses('[1]', 0, /must be a JSON object/);
  });

  it('refuses tensors that do not fit their bytes or the file', async () => {
    const f32 = (shape: number[], from: number, to: number): Header[string] => ({
      dtype: 'F32',
      shape,
      data_offsets: [from, to],
    });
    await refuses({ a: f32([3], 0, 8) }, 8, /tensor a of F32 \[3\] needs 12 bytes but has 8/);
    await refuses({ a: f32([2], 8, 0) }, 8, /needs 8 bytes but has -8/);
    await refuses({ a: f32([2], 0, 8), b: f32([2], 4, 12) }, 12, /overlap or leave a gap/);
    await refuses({ a: f32([2], 0, 8), b: f32([2], 12, 20) }, 20, /overlap or leave a gap/);
    await refuses({ a: f32([2 ** 40, 2 ** 40], 0, 8) }, 8, /needs .* bytes but has 8/);
    await refuses({ a: f32([-2], 0, 8) }, 8, /field "a.shape.0" is -2, but must be >= 0/);
    await refuses({ a: f32([2.5], 0, 10) }, 10, /field "a.shape.0" is 2.5, but must be a whole/);
    await refuses({ a: f32(Array(9).fill(1) as number[], 0, 4) }, 4, /more than 8 dimensions/);
    await refuses(
      { a: { ...f32([16], 0, 8), dtype: 'I4' } },
      8,
      /unknown dtype I4; known: F64, F32.*BOOL$/,
    );
    await refuses(
      { a: { ...f32([2], 0, 8), dtype: 'F4' } },
      8,
      /unknown dtype F4; known: F64, F32/,
    );
    await refuses('{"a": 3}', 0, /field "a" is 3, but must be an object/);
    await refuses('{"__metadata__": {"step": 3}}', 0, /"__metadata__.step" is 3/);
  });

  it('throws nothing but UserError when bytes of a real header change', async () => {
    const whole = await readFile(
      join(referenceCase('llama-untied-bias'), 'adapter', 'adapter_model.safetensors'),
    );
    const path = join(await scratch.directory(), 'x.safetensors');
    const change = fc.tuple(fc.nat({ max: 1511 }), fc.nat({ max: 255 }));
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
        const bytes = Buffer.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        await writeFile(path, bytes);
        try {
          const { tensors } = await readSafetensorsHeader(path);
          for (const { offset, length } of tensors) assert.ok(offset + length <= bytes.length);
        } catch (error) {
          assert.ok(error instanceof UserError, String(error));
        }
      }),
      { numRuns: 200 },
    );
  });

  it('takes scalars, empty tensors and any order in the header', async () => {
    const file = await fileWith(
      {
        late: { dtype: 'F32', shape: [], data_offsets: [0, 4] },
        none: { dtype: 'F32', shape: [0, 3], data_offsets: [4, 4] },
        early: { dtype: 'U8', shape: [3], data_offsets: [4, 7] },
      },
      7,
    );
    const { tensors } = await readSafetensorsHeader(file);
    assert.deepEqual(
      tensors.map(({ name, length }) => [name, length]),
      [
        ['late', 4],
        ['none', 0],
        ['early', 3],
      ],
    );
  });
});

describe('readTensorF32', () => {
  it('widens half precision and bfloat16 exactly', async () => {
    // 1, -2, 65504 (largest), 2^-24 (smallest), -0, Infinity, 1/3 rounded; then 1, -2, 3.140625, 2^-133.
    const words = [0x3c00, 0xc000, 0x7bff, 0x0001, 0x8000, 0x7c00, 0x3555];
    const brain = [0x3f80, 0xc000, 0x4049, 0x0001];
    const file = await fileWith(
      {
        half: { dtype: 'F16', shape: [7], data_offsets: [0, 14] },
        brain: { dtype: 'BF16', shape: [2, 2], data_offsets: [14, 22] },
      },
      Buffer.from(new Uint16Array([...words, ...brain]).buffer),
    );
    const [half, bf16] = (await readSafetensorsHeader(file)).tensors;
    assert.deepEqual(
      [...(await readTensorF32(half!))],
      [1, -2, 65_504, 2 ** -24, -0, Infinity, 0.333251953125],
    );
    assert.deepEqual([...(await readTensorF32(bf16!))], [1, -2, 3.140625, 2 ** -133]);
  });

  it('refuses integers and files that shrank since', async () => {
    const header: Header = { a: { dtype: 'I64', shape: [1], data_offsets: [0, 8] } };
    const [entry] = (await readSafetensorsHeader(await fileWith(header, 8))).tensors;
    await assert.rejects(readTensorF32(entry!), userError(/a is I64, but weights must be F32/));
    await truncate(entry!.file, 10);
    await assert.rejects(
      readTensorF32({ ...entry!, dtype: 'F32' }),
      userError(/became shorter while it was read/),
    );
  });
});

describe('writeSafetensors', () => {
  it('writes what it reads back: names, shapes, metadata and every bit', async () => {
    const path = join(await scratch.directory(), 'x.safetensors');
    const tensor = fc.record({
      shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }),
      seed: fc.float({ noNaN: true }),
    });
    const all = fc.dictionary(fc.string({ minLength: 1, maxLength: 8 }), tensor, { maxKeys: 5 });
    await fc.assert(
      fc.asyncProperty(all, async (wanted) => {
        const tensors = Object.entries(wanted)
          .filter(([name]) => name !== '__metadata__' && name !== '__proto__')
          .map(([name, { shape, seed }]) => {
            const size = shape.reduce((product, n) => product * n, 1);
            return { name, shape, data: new Float32Array(size).map((_, i) => seed / (i + 1)) };
          });
        await writeSafetensors(path, tensors, { format: 'pt' });
        const { tensors: found, metadata } = await readSafetensorsHeader(path);
        assert.deepEqual(metadata, { format: 'pt' });
        assert.equal(found.length, tensors.length);
        for (const { name, shape, data } of tensors) {
          const entry = found.find((candidate) => candidate.name === name);
          assert.ok(entry);
          assert.deepEqual(entry.shape, shape);
          assert.deepEqual(await readTensorF32(entry), data);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('leaves no half-written file behind', async () => {
    const dir = await scratch.directory();
    const one = { name: 'a', shape: [1], data: new Float32Array(1) };
    await assert.rejects(
      writeSafetensors(join(dir, 'missing', 'x.safetensors'), [one], {}),
      userError(/cannot be written \(ENOENT\)/),
    );
    await writeSafetensors(join(dir, 'x.safetensors'), [one], {});
    assert.deepEqual(await readdir(dir), ['x.safetensors']);
  });
});
