/**
 * Records what the program does to the disk while it does it, lets single operations fail, and can stop the
 * program in front of one for ever, as kill -9 does. The record is what power-loss.ts rebuilds disks from.
 */
import { existsSync, statSync, writeFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setImmediate as macrotask } from 'node:timers/promises';
import { disk, type Disk } from '../../node/files.js';

/** One change of the disk, or a note of the scenario in between. `file` is an inode. */
export type Operation =
  | { kind: 'create'; path: string; file: number }
  | { kind: 'write'; file: number; position: number; bytes: Uint8Array }
  | { kind: 'truncate'; file: number; size: number }
  | { kind: 'tamper'; file: number; bytes: Uint8Array }
  | { kind: 'sync' | 'failed-sync'; file: number; path: string }
  | { kind: 'rename'; from: string; to: string; file: number }
  | { kind: 'remove' | 'mkdir' | 'sync-directory'; path: string }
  | { kind: 'note'; note: unknown };

/** What happens at an operation: nothing special, an error, a write that stops halfway, or the end. */
export type Fault = { errno: string; halfWritten?: boolean } | 'kill' | null;

export class RecordingDisk {
  readonly trace: Operation[] = [];
  /** Asked in front of each operation, with its number from 0 and its name, e.g. "write log.bin". */
  faultAt: (index: number, name: string) => Fault = () => null;
  /** Operations begun so far, failed ones included. */
  count = 0;
  readonly #real: Disk = { ...disk };
  readonly #files = new Map<string, number>();
  readonly #handles = new Set<FileHandle>();
  #nextFile = 0;
  #pending = 0;
  #isKilled = false;
  /** Resolves when a fault kills the program. */
  readonly killed: Promise<void>;
  #onKilled: () => void = () => undefined;

  /** Puts this layer before the disk until close(). */
  constructor() {
    this.killed = new Promise((resolve) => (this.#onKilled = resolve));
    Object.assign(disk, {
      open: (path, flags, mode) => this.#open(path, flags, mode),
      mkdir: (path, mode) =>
        this.#do(`mkdir ${path}`, async () => {
          await this.#real.mkdir(path, mode);
          this.trace.push({ kind: 'mkdir', path });
        }),
      rename: (from, to) =>
        this.#do(`rename ${from}`, async () => {
          await this.#real.rename(from, to);
          const file = this.#fileAt(from);
          this.#files.delete(from);
          this.#files.set(to, file);
          this.trace.push({ kind: 'rename', from, to, file });
        }),
      remove: (path) =>
        this.#do(`remove ${path}`, async () => {
          const isThere = existsSync(path);
          await this.#real.remove(path);
          this.#files.delete(path);
          if (isThere) this.trace.push({ kind: 'remove', path });
        }),
    } satisfies Disk);
  }

  close(): void {
    Object.assign(disk, this.#real);
  }

  note(note: unknown): void {
    this.trace.push({ kind: 'note', note });
  }

  /** Changes a file behind the program's back, durably: what a bad disk or another program does. */
  tamper(path: string, bytes: Uint8Array): void {
    writeFileSync(path, bytes);
    this.trace.push({ kind: 'tamper', file: this.#fileAt(path), bytes });
  }

  /** Forgets that a kill stopped the program: a new process begins, and the old one's files are closed. */
  async revive(): Promise<void> {
    this.#isKilled = false;
    this.faultAt = () => null;
    for (const handle of this.#handles) await handle.close();
    this.#handles.clear();
  }

  /** Resolves when no operation is under way. */
  async idle(): Promise<void> {
    do await macrotask();
    while (this.#pending > 0 && !this.#isKilled);
    await macrotask();
  }

  async #open(path: string, flags: 'r' | 'r+' | 'w' | 'wx', mode?: number): Promise<FileHandle> {
    return this.#do(`open ${path}`, async () => {
      const isThere = existsSync(path);
      const handle = await this.#real.open(path, flags, mode);
      if (flags === 'w' || flags === 'wx') {
        if (isThere) this.trace.push({ kind: 'truncate', file: this.#fileAt(path), size: 0 });
        else this.trace.push({ kind: 'create', path, file: this.#fileAt(path) });
      }
      this.#handles.add(handle);
      return this.#watch(handle, path, statSync(path).isDirectory());
    });
  }

  #fileAt(path: string): number {
    let file = this.#files.get(path);
    if (file === undefined) this.#files.set(path, (file = this.#nextFile++));
    return file;
  }

  /** The handle, with its changes recorded. */
  #watch(handle: FileHandle, path: string, isDirectory: boolean): FileHandle {
    const file = isDirectory ? -1 : this.#fileAt(path);
    let appended = 0;
    const write = async (bytes: Uint8Array, position: number): Promise<void> => {
      await this.#do(
        `write ${path}`,
        async () => {
          await handle.write(bytes, 0, bytes.length, position);
          this.trace.push({ kind: 'write', file, position, bytes: bytes.slice() });
        },
        async () => {
          const half = bytes.subarray(0, bytes.length >> 1);
          await handle.write(half, 0, half.length, position);
          this.trace.push({ kind: 'write', file, position, bytes: half.slice() });
        },
      );
    };
    const sync = (): Promise<void> =>
      this.#do(
        `sync ${path}`,
        async () => {
          if (isDirectory) this.trace.push({ kind: 'sync-directory', path });
          else this.trace.push({ kind: 'sync', file, path });
        },
        async () => void this.trace.push({ kind: 'failed-sync', file, path }),
      );
    const replaced: Record<string, unknown> = {
      close: async () => {
        this.#handles.delete(handle);
        this.#pending++;
        await handle.close().finally(() => this.#pending--);
      },
      sync,
      datasync: sync,
      writeFile: async (data: Uint8Array | string) => {
        const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
        await write(bytes, appended);
        appended += bytes.length;
      },
      write: async (bytes: Uint8Array, offset: number, length: number, position: number) => {
        await write(bytes.subarray(offset, offset + length), position);
        return { bytesWritten: length, buffer: bytes };
      },
      truncate: (size: number) =>
        this.#do(`truncate ${path}`, async () => {
          await handle.truncate(size);
          this.trace.push({ kind: 'truncate', file, size });
        }),
    };
    return new Proxy(handle, {
      get: (target, key) => {
        const own = typeof key === 'string' ? replaced[key] : undefined;
        if (own !== undefined) return own;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }

  /** `onFault` is what an operation that fails has done all the same. */
  async #do<T>(name: string, act: () => Promise<T>, onFault?: () => Promise<unknown>): Promise<T> {
    const fault = this.#isKilled ? 'kill' : this.faultAt(this.count, name);
    if (fault === 'kill') {
      this.#isKilled = true;
      this.#onKilled();
      return new Promise<T>(() => undefined);
    }
    this.count++;
    this.#pending++;
    try {
      if (fault === null) return await act();
      if (fault.halfWritten === true || name.startsWith('sync')) await onFault?.();
      throw Object.assign(new Error(`${fault.errno}: injected, ${name}`), { code: fault.errno });
    } finally {
      this.#pending--;
    }
  }
}
