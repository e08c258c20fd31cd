/**
 * Parquet, by hyparquet: only the columns of the examples, one row group after another. Whatever a size in the file
 * could make a decoder allocate is checked before it decodes.
 */
import type { FileHandle } from 'node:fs/promises';
import {
  parquetMetadata,
  parquetReadObjects,
  parquetSchema,
  type AsyncBuffer,
  type FileMetaData,
  type RowGroup,
  type SchemaTree,
} from 'hyparquet';
import { UserError } from '../errors.js';
import { columnsOf, formOf, INVALID_TEXT, type ColumnNames } from './columns.js';
import { openDataFile } from './open-file.js';
import {
  checkPages,
  COMPRESSORS,
  ParquetPageError,
  VALUES_MAX,
  type ColumnShape,
} from './parquet-pages.js';
import { placeText, type Row } from './records.js';
import { ThriftWalk } from './thrift.js';

/** Bytes of the footer, and values in it: a thousand row groups of twenty columns have a million. */
const FOOTER_BYTES_MAX = 16 * 1024 * 1024;
const FOOTER_VALUES_MAX = 1 << 22;
/** Bytes of the example's columns in one row group, unpacked: what is in memory at once, up to eight times over. */
export const ROW_GROUP_BYTES_MAX = 1 << 28;
/** Parts of a path in the schema: `messages` has four. */
const PATH_LENGTH_MAX = 12;

const MAGIC = 'PAR1';
const MAGIC_ENCRYPTED = 'PARE';
/** The footer's length and the magic number. */
const TAIL_BYTES = 8;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const PARSERS = {
  stringFromBytes: (bytes: Uint8Array | undefined): unknown => {
    if (bytes === undefined) return undefined;
    try {
      return utf8.decode(bytes);
    } catch {
      return INVALID_TEXT;
    }
  },
};

/**
 * Yields the rows, with the columns of the example alone. Throws UserError: no Parquet file, or one that is cut short,
 * damaged, encrypted, or beyond the bounds; or columns that are no example (see formOf).
 */
export async function* readParquet(
  file: string,
  columns: ColumnNames,
): AsyncGenerator<Row, void, undefined> {
  const handle = await openDataFile(file);
  try {
    const buffer = await bufferOf(handle);
    const metadata = await guarded(file, 'its footer', () => readFooter(file, buffer));
    const tree = await guarded(file, 'its schema', () => parquetSchema(metadata));
    const names = tree.children.map(({ element }) => element.name);
    const first = { line: 1, unit: 'row' as const };
    const wanted = columnsOf(formOf(names, columns, placeText(file, first)));
    let start = 0;
    for (const [i, group] of metadata.row_groups.entries()) {
      const read = (): Promise<Record<string, unknown>[]> =>
        readGroup({ file, buffer, metadata, tree, wanted, group, start });
      const rows = await guarded(file, `its row group ${i + 1}`, read);
      for (const [k, fields] of rows.entries()) {
        yield { fields, line: start + k + 1, unit: 'row' };
      }
      start += Number(group.num_rows);
    }
  } finally {
    await handle.close();
  }
}

/** What the library throws says nothing to a person, and may be anything. */
async function guarded<T>(file: string, what: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof UserError) throw cause;
    const why = cause instanceof ParquetPageError ? ` (${cause.message})` : '';
    throw new UserError(`${file}: ${what} cannot be read${why}: get or write the file again`);
  }
}

async function bufferOf(handle: FileHandle): Promise<AsyncBuffer> {
  const { size } = await handle.stat();
  return {
    byteLength: size,
    slice: async (start, end = size) => {
      if (!(start >= 0 && start <= end && end <= size))
        throw new ParquetPageError('it is cut short');
      const bytes = new Uint8Array(end - start);
      let done = 0;
      while (done < bytes.length) {
        const { bytesRead } = await handle.read(bytes, done, bytes.length - done, start + done);
        if (bytesRead === 0) throw new ParquetPageError('it is cut short');
        done += bytesRead;
      }
      return bytes.buffer;
    },
  };
}

async function readFooter(file: string, buffer: AsyncBuffer): Promise<FileMetaData> {
  const size = buffer.byteLength;
  const ascii = async (at: number): Promise<string> =>
    Buffer.from(await buffer.slice(at, at + 4)).toString('latin1');
  if (size === 0) throw new UserError(`${file}: is empty: give a file with at least one example`);
  const begins = size < 4 ? '' : await ascii(0);
  const ends = size < TAIL_BYTES + 4 ? '' : await ascii(size - 4);
  if (begins === MAGIC_ENCRYPTED || ends === MAGIC_ENCRYPTED) throw encrypted(file);
  if (begins !== MAGIC)
    throw new UserError(`${file}: is not a Parquet file: give the file another ending`);
  if (ends !== MAGIC) {
    throw new UserError(`${file}: is cut short, its end is missing: get or write it again`);
  }
  const tail = new DataView(await buffer.slice(size - TAIL_BYTES, size));
  const length = tail.getUint32(0, true);
  if (length > Math.min(size - TAIL_BYTES - 4, FOOTER_BYTES_MAX)) {
    throw new ParquetPageError(`it would have ${length} bytes`);
  }
  const footer = await buffer.slice(size - TAIL_BYTES - length, size);
  const walk = new ThriftWalk(new DataView(footer, 0, length));
  walk.struct();
  if (walk.values > FOOTER_VALUES_MAX) throw new ParquetPageError(`it has ${walk.values} values`);
  return parquetMetadata(footer, { geoparquet: false });
}

function encrypted(file: string): UserError {
  return new UserError(
    `${file}: is encrypted, which cannot be read here: write it again without encryption`,
  );
}

interface GroupToRead {
  file: string;
  buffer: AsyncBuffer;
  metadata: FileMetaData;
  tree: SchemaTree;
  wanted: string[];
  group: RowGroup;
  /** Rows before this group. */
  start: number;
}

async function readGroup(read: GroupToRead): Promise<Record<string, unknown>[]> {
  const { buffer, metadata, wanted, group, start } = read;
  const rows = Number(group.num_rows);
  if (!(rows >= 0 && rows <= VALUES_MAX)) throw new ParquetPageError(`it would have ${rows} rows`);
  await checkGroup(read);
  const found = await parquetReadObjects({
    ...{ file: buffer, metadata, columns: wanted, rowStart: start, rowEnd: start + rows },
    ...{ compressors: COMPRESSORS, parsers: PARSERS, geoparquet: false },
  });
  if (found.length !== rows) throw new ParquetPageError('it has fewer rows than it says');
  return found;
}

async function checkGroup({ file, buffer, tree, wanted, group }: GroupToRead): Promise<void> {
  let unpacked = 0;
  for (const { meta_data: column, crypto_metadata: crypto } of group.columns) {
    if (crypto !== undefined) throw encrypted(file);
    if (column === undefined) throw new ParquetPageError('a column is missing');
    if (!wanted.includes(column.path_in_schema[0] ?? '')) continue;
    unpacked += Number(column.total_uncompressed_size);
    if (!(unpacked <= ROW_GROUP_BYTES_MAX)) {
      throw new ParquetPageError(
        `its columns have more than ${ROW_GROUP_BYTES_MAX} bytes; write it with smaller row groups`,
      );
    }
    const { dictionary_page_offset: dictionary, data_page_offset: data } = column;
    // As hyparquet finds where a column begins.
    const from = Number(dictionary === undefined || dictionary === 0n ? data : dictionary);
    const bytes = await buffer.slice(from, from + Number(column.total_compressed_size));
    checkPages(new Uint8Array(bytes), shapeOf(tree, column.path_in_schema, column.codec));
  }
}

function shapeOf(
  tree: SchemaTree,
  path: readonly string[],
  codec: ColumnShape['codec'],
): ColumnShape {
  const shape = { codec, repetitionMax: 0, definitionMax: 0 };
  if (path.length > PATH_LENGTH_MAX)
    throw new ParquetPageError('its columns are nested too deeply');
  let node = tree;
  for (const name of path) {
    const child = node.children.find(({ element }) => element.name === name);
    if (child === undefined) throw new ParquetPageError('a column is not in the schema');
    node = child;
    const { repetition_type: repetition, logical_type: logical } = node.element;
    if (repetition !== 'REQUIRED') shape.definitionMax++;
    if (repetition === 'REPEATED') shape.repetitionMax++;
    if (logical?.type === 'VARIANT') throw new ParquetPageError('a column of its is a VARIANT');
  }
  return shape;
}
