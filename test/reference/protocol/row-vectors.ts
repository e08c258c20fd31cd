/** What vectors.json pins of rows: what authors write, and what receivers read. */
import { adapterLayout } from '../../../protocol/adapter.js';
import { sha256, toHex } from '../../../protocol/bytes.js';
import { encodeUpdateMessage } from '../../../protocol/gossip.js';
import { CODECS, type Compression, type Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import {
  addSquares,
  dequantise,
  emptyBody,
  quantise,
  type Quantised,
} from '../../../protocol/quantise.js';
import { accumulate, takeUpdate } from '../../../protocol/residual.js';
import { bodyBytes, codeOf, RowFormats } from '../../../protocol/row-format.js';
import type { Update } from '../../../protocol/update.js';
import { testIdentity } from '../../support/runs.js';
import { float64Bytes } from './fold-vectors.js';

/** How the rows of an epoch are coded. */
export function formatVector(name: string, run: Run, epoch: number): object {
  const format = new RowFormats(run).at(epoch);
  const { blocks, signs, coordinates } = format;
  const bytes = bodyBytes(format);
  return { run: name, epoch, blocks, signs: [...signs], coordinates, bytes };
}

/** Coordinates of `rows`: two tiles, the second of four blocks, the last of them short. */
const ROW_COORDINATES = 5000;

/** What rows hold: numbers of one size, beyond both ends of binary16 too, zeros, and one large number among small ones. */
const ROW_VALUES: Readonly<Record<string, (random: Prng, i: number) => number>> = {
  usual: (random) => 0.01 * (2 * random.nextFloat() - 1),
  zero: () => 0,
  tiny: (random) => 1e-7 * (2 * random.nextFloat() - 1),
  vanishing: (random) => 1e-300 * (2 * random.nextFloat() - 1),
  huge: (random) => 1e9 * (2 * random.nextFloat() - 1),
  spike: (random, i) => (i === 4200 ? 1 : 1e-5 * (2 * random.nextFloat() - 1)),
  equal: (_random, i) => (i % 256 === 0 ? 16 : 0),
};

/** Rows of more than a tile: what an author writes of known numbers, and what receivers read of any bytes. */
export function rowVectors(name: string, run: Run, codec: Compression['codec']): object[] {
  const epoch = 1;
  const { signs } = new RowFormats(run).at(epoch);
  const blocks = Math.ceil(ROW_COORDINATES / 256);
  const format = { code: codeOf(codec), coordinates: ROW_COORDINATES, blocks, signs };
  const sha = (values: Float64Array): string => toHex(sha256(float64Bytes(values)));
  const lengthOf = (row: Quantised): number => addSquares(row, format, 0, blocks, 0);
  const shared = {
    run: name,
    epoch,
    codec: CODECS.indexOf(codec) + 1,
    coordinates: ROW_COORDINATES,
  };
  const written = Object.entries(ROW_VALUES).map(([values, draw]) => {
    const random = new Prng(new Uint8Array(32), `row/${values}`);
    const row = quantise(
      Float64Array.from({ length: ROW_COORDINATES }, (_, i) => draw(random, i)),
      format,
    );
    const codes = toHex(sha256(row.codes));
    const read = { valuesSha256: sha(dequantise(row, format)), squaredLength: lengthOf(row) };
    return { ...shared, values, scales: toHex(row.scales), codesSha256: codes, ...read };
  });
  const anyBytes = [1, 2].map((number) => {
    const random = new Prng(new Uint8Array(32), `bytes/${number}`);
    const row = emptyBody(format);
    // One in four bytes of the second is all ones: long gaps, and tiles that end early.
    for (let i = 0; i < row.codes.length; i++)
      row.codes[i] = number === 2 && random.nextBelow(4) === 0 ? 255 : random.nextBelow(256);
    for (let i = 0; i < row.scales.length; i += 2) {
      const half = random.nextBelow(0x7c00);
      [row.scales[i], row.scales[i + 1]] = [half & 0xff, half >>> 8];
    }
    const read = { valuesSha256: sha(dequantise(row, format)), squaredLength: lengthOf(row) };
    return { ...shared, bytes: number, ...read };
  });
  return [...written, ...anyBytes];
}

/** What an author does in one epoch, numbers in and bytes out. */
export function authorVector(name: string, run: Run, epoch: number): object {
  const { peerId } = testIdentity(1);
  const { size } = adapterLayout(run.manifest.adapter);
  const random = new Prng(new Uint8Array(32), `vector/${epoch}`);
  const draw = (): Float64Array =>
    Float64Array.from({ length: size }, () => (2 * random.nextFloat() - 1) * 0.01);
  const [residual, delta] = [draw(), draw()];
  const before = { residual: toHex(float64Bytes(residual)), delta: toHex(float64Bytes(delta)) };
  accumulate(residual, { from: delta, to: null, scale: 1 });
  const { scales, codes } = takeUpdate(residual, new RowFormats(run).at(epoch));
  return {
    run: name,
    epoch,
    author: peerId,
    ...before,
    scales: toHex(scales),
    codes: toHex(codes),
    residualAfterSha256: toHex(sha256(float64Bytes(residual))),
  };
}

/** An update, and what receivers read of it. */
export function updateVector(name: string, run: Run, update: Update): object {
  const values = dequantise(update, new RowFormats(run).at(update.epoch));
  return {
    run: name,
    gossip: toHex(encodeUpdateMessage(update)),
    id: update.id,
    author: update.author,
    epoch: update.epoch,
    baseEpoch: update.baseEpoch,
    steps: update.steps,
    valuesSha256: toHex(sha256(float64Bytes(values))),
    firstValues: [...values.subarray(0, 4)],
  };
}
