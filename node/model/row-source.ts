/** Where the rows of a weight come from, whatever its file holds. */
import type { FloatStorage } from '../engine/storage.js';

/** An open weight [rows, width]. Calls of `read` must not overlap. */
export interface RowSource {
  /** Of the values that `read` brings, little-endian. */
  readonly storage: FloatStorage;
  /** Fills `into` with rows from `first` on, as many as it has room for. Throws UserError. */
  read(first: number, into: Uint8Array<ArrayBuffer>): Promise<void>;
  close(): Promise<void>;
}

/** Rows that are worked out: `decode` fills `values` with rows from `first` on. */
export function decodedRows(
  decode: (first: number, values: Float32Array) => void | Promise<void>,
  close: () => Promise<void> = async () => undefined,
): RowSource {
  return {
    storage: 'F32',
    read: async (first, into) => {
      const values = new Float32Array(into.buffer, into.byteOffset, into.length / 4);
      await decode(first, values);
    },
    close,
  };
}
