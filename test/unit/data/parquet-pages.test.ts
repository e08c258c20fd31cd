import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  checkPages,
  ParquetPageError,
  type ColumnShape,
} from '../../../node/data/parquet-pages.js';
import { ThriftError, ThriftWalk } from '../../../node/data/thrift.js';

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) + 128, ...varint(Math.floor(value / 128))];
/** A field after the one before it in number, of kind i32. */
const int = (value: number): number[] => [0x15, ...varint(2 * value)];

interface PageSize {
  values: number;
  encoding?: number;
  unpacked?: number;
}

/** A data page (version 1) and what stands in it. */
function pageOf(
  body: readonly number[],
  { values, encoding = 8, unpacked = body.length }: PageSize,
): Uint8Array {
  const own = [...int(values), ...int(encoding), ...int(3), ...int(3), 0];
  // type 0, both sizes, and the struct in field 5.
  const header = [...int(0), ...int(unpacked), ...int(body.length), 0x2c, ...own, 0];
  return Uint8Array.from([...header, ...body]);
}

const column: ColumnShape = { codec: 'UNCOMPRESSED', repetitionMax: 0, definitionMax: 1 };
/** Levels: their length in bytes, then runs. */
const levels = (...runs: number[]): number[] => [runs.length, 0, 0, 0, ...runs];
/** `count` times `value`, in a run. */
const run = (count: number, value: number): number[] => [...varint(2 * count), value];

describe('pages of a Parquet column', () => {
  it('pass when they hold what they say', () => {
    // Ten values, four of them missing, and six times entry 1 of the dictionary.
    const whole = [...levels(...run(4, 0), ...run(6, 1)), 1, ...run(6, 1)];
    checkPages(pageOf(whole, { values: 10 }), column);
    // Eight packed levels in a byte, then dictionary entries packed likewise.
    checkPages(pageOf([...levels(3, 0b1011_0101), 1, 3, 0b0001_1111], { values: 8 }), column);
  });

  const refused: [string, Uint8Array, RegExp][] = [
    [
      'a run of levels beyond the page',
      pageOf([...levels(...run(2 ** 27, 1)), 1, ...run(6, 1)], { values: 10 }),
      /a run has more values than its page/,
    ],
    [
      'a run of entries beyond the page',
      pageOf([...levels(...run(10, 1)), 1, ...run(2 ** 27, 1)], { values: 10 }),
      /a run has more values than its page/,
    ],
    [
      'a stretch beyond the bytes',
      pageOf([...levels(...varint(2 ** 25 + 1), 1)], { values: 10 }),
      /a run is cut short/,
    ],
    [
      'more values than a row group may have',
      pageOf(levels(...run(2 ** 24, 0)), { values: 2 ** 24 }),
      /more than 8388608 values/,
    ],
    [
      'a size that the packed bytes cannot have',
      pageOf([1, 2], { values: 1, unpacked: 2 ** 28 }),
      /a page would have 268435456 bytes/,
    ],
    [
      'an encoding that could grow without bound',
      pageOf([...levels(...run(1, 1)), 0], { values: 1, encoding: 7 }),
      /its encoding cannot be read/,
    ],
    [
      'a page that is cut short',
      pageOf([...levels(...run(9, 1)), 1, 2, 1], { values: 9 }).subarray(0, -3),
      /a page is cut short/,
    ],
  ];
  for (const [what, page, pattern] of refused) {
    it(`are refused: ${what}`, () => {
      assert.throws(
        () => checkPages(page, column),
        (error) => error instanceof ParquetPageError && pattern.test(error.message),
      );
    });
  }
});

describe('a Thrift struct', () => {
  const walk = (...bytes: number[]): ThriftWalk =>
    new ThriftWalk(new DataView(Uint8Array.from(bytes).buffer));

  it('gives its numbers and structs, and where it ends', () => {
    // 1: -3, 2: true, 4: "ab", 5: {1: 7}, 6: [1, 2]
    const bytes = [0x15, 5, 0x11, 0x28, 2, 97, 98, 0x1c, 0x15, 14, 0, 0x19, 0x25, 2, 4, 0, 99];
    const found = walk(...bytes);
    const { numbers, structs } = found.struct();
    assert.deepEqual(
      [...numbers],
      [
        [1, -3],
        [2, 1],
      ],
    );
    assert.deepEqual([...(structs.get(5)?.numbers ?? [])], [[1, 7]]);
    assert.equal(found.offset, bytes.length - 1);
  });

  it('is refused when it could make a reader take what is not there', () => {
    const wrong = [
      walk(0x15),
      walk(0x18, 0xff, 0xff, 0x7f, 1),
      walk(0x19, 0xf5, 0xff, 0xff, 0x7f, 1, 0),
      walk(...Array<number>(40).fill(0x1c)),
      walk(...Array<number>(40).fill(0x19)),
      walk(0x1b, 1, 0),
      walk(0x15, ...Array<number>(12).fill(0xff), 0),
    ];
    for (const one of wrong) assert.throws(() => one.struct(), ThriftError);
  });
});
