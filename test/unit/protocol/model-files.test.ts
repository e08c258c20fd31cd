/** The catalogue of a model's files: one encoding, nothing but a model, and a name that commits to all of it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { blobRoot, chunkHashes } from '../../../protocol/blob.js';
import { toHex } from '../../../protocol/bytes.js';
import { MODEL_PART_BYTES } from '../../../protocol/limits.js';
import {
  catalogueName,
  decodeModelFiles,
  encodeModelFiles,
  isModelFile,
  partsOf,
  type ModelFile,
} from '../../../protocol/model-files.js';
import { decodeManifest, encodeManifest } from '../../../protocol/manifest-codec.js';
import * as wire from '../../../protocol/wire/messages.js';
import { testRun } from '../../support/runs.js';
import { sampleManifest } from '../manifest-sample.js';

const REFUSED = { name: 'InvalidModelFilesError' };
const ROOTS = ['ab'.repeat(32), 'cd'.repeat(32)];

function file(name: string, size = 10): ModelFile {
  const count = Math.ceil(size / MODEL_PART_BYTES);
  return { name, size, parts: Array.from({ length: count }, (_, i) => ROOTS[i % 2]!) };
}

const MODEL = [
  file('config.json'),
  file('model.safetensors', MODEL_PART_BYTES + 1),
  file('tokenizer.json'),
];

describe('the catalogue of a model', () => {
  it('has one encoding, whatever the order of the files, and comes back as it went', () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(['a', 'B', '_c-1', 'model'], { minLength: 1 }),
        fc.array(fc.integer({ min: 1, max: 3 * MODEL_PART_BYTES }), { minLength: 6, maxLength: 6 }),
        (names, sizes) => {
          const all = ['tokenizer.json', 'config.json', ...names.map((n) => `${n}.safetensors`)];
          const files = all.map((name, i) => file(name, sizes[i]));
          const bytes = encodeModelFiles(files);
          assert.deepEqual(bytes, encodeModelFiles(files.toReversed()));
          const sorted = files.sort((a, b) => (a.name < b.name ? -1 : 1));
          assert.deepEqual(decodeModelFiles(bytes), sorted);
        },
      ),
    );
  });

  it('cuts each file into parts that cover it', () => {
    assert.deepEqual(partsOf([MODEL[1]!, MODEL[2]!]), [
      { file: 'model.safetensors', offset: 0, root: ROOTS[0], size: MODEL_PART_BYTES },
      { file: 'model.safetensors', offset: MODEL_PART_BYTES, root: ROOTS[1], size: 1 },
      { file: 'tokenizer.json', offset: 0, root: ROOTS[0], size: 10 },
    ]);
  });

  it('names files that a model directory holds, and no others', () => {
    for (const name of ['config.json', 'chat_template.jinja', 'model-00001-of-00002.safetensors'])
      assert.ok(isModelFile(name), name);
    for (const name of [
      ...['', '.', '..', '../config.json', 'a/config.json', 'a\\config.json', 'CONFIG.JSON'],
      ...[
        '.safetensors',
        '-x.safetensors',
        '../x.safetensors',
        'x.safetensors\n',
        'x.safetensors.',
      ],
      ...['x y.safetensors', 'é.safetensors', 'modeling.py', 'pytorch_model.bin', 'settings.json'],
    ]) {
      assert.ok(!isModelFile(name), name);
      const bytes = wire.ModelFiles.encode({
        files: [...MODEL, { name, size: 1, parts: [ROOTS[0]!] }].map((one) => ({
          ...one,
          parts: one.parts.map((root) => Uint8Array.from(Buffer.from(root, 'hex'))),
        })),
      });
      assert.throws(() => decodeModelFiles(bytes), REFUSED, name);
    }
  });

  it('is refused where it is no model, or not in its one form', () => {
    const without = (name: string): ModelFile[] => MODEL.filter((one) => one.name !== name);
    for (const { name } of MODEL) assert.throws(() => encodeModelFiles(without(name)), REFUSED);
    const odd: Partial<ModelFile>[] = [
      { size: 0, parts: [] },
      { size: 1.5 },
      { size: Number.MAX_SAFE_INTEGER + 1 },
      { parts: [] },
      { parts: [ROOTS[0]!, ROOTS[1]!] },
      { parts: ['ab'] },
      { name: 'tokenizer.json' },
    ];
    for (const change of odd)
      assert.throws(
        () => encodeModelFiles([{ ...MODEL[0]!, ...change }, ...MODEL.slice(1)]),
        REFUSED,
      );
    const bytes = encodeModelFiles(MODEL);
    const { files } = wire.ModelFiles.decode(bytes);
    for (const bad of [
      wire.ModelFiles.encode({ files: files.toReversed() }),
      Buffer.concat([bytes, Uint8Array.of(0x98, 0x06, 0x01)]),
      bytes.subarray(0, -1),
      new Uint8Array(),
      Uint8Array.of(255),
    ])
      assert.throws(() => decodeModelFiles(bad), REFUSED);
  });

  it('has the name of the blob that it is', () => {
    const bytes = encodeModelFiles(MODEL);
    const root = toHex(blobRoot(chunkHashes([bytes])));
    assert.deepEqual(catalogueName(bytes), { root, size: bytes.length });
  });
});

describe('a manifest with a catalogue', () => {
  const withFiles = (filesRoot: Uint8Array<ArrayBuffer>, filesBytes: number): Uint8Array => {
    const manifest = wire.Manifest.decode(testRun().bytes);
    const model = manifest.model ?? wire.Model.decode(new Uint8Array());
    return wire.Manifest.encode({ ...manifest, model: { ...model, filesRoot, filesBytes } });
  };

  it('is another run than without, and says the same after decoding', () => {
    const manifest = sampleManifest();
    const files = catalogueName(encodeModelFiles(MODEL));
    const named = encodeManifest({ ...manifest, model: { ...manifest.model, files } });
    assert.notEqual(named.id, encodeManifest(manifest).id);
    assert.deepEqual(decodeManifest(named.bytes).manifest.model.files, files);
    assert.equal(decodeManifest(encodeManifest(manifest).bytes).manifest.model.files, null);
  });

  it('is refused with half a name', () => {
    const root = new Uint8Array(32).fill(1);
    assert.ok(decodeManifest(withFiles(root, 1)));
    for (const [bytes, size] of [
      [root, 0],
      [new Uint8Array(), 1],
      [root.subarray(1), 1],
      [new Uint8Array(33), 1],
    ] as const)
      assert.throws(() => decodeManifest(withFiles(Uint8Array.from(bytes), size)), {
        name: 'InvalidManifestError',
      });
  });
});
