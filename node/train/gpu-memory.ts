/** How much memory a GPU has for training, as far as that can be known: no provider of ONNX Runtime tells it. */
import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { GPU_DEVICES, type Device } from '../engine/devices.js';
import type { MachineMemory } from './memory-plan.js';

/** Where the size of a GPU's memory comes from: --gpu-memory, its driver or the system, or nowhere. */
export const GPU_MEMORY_SOURCES = ['asked', 'known', 'guessed'] as const;
export type GpuMemorySource = (typeof GPU_MEMORY_SOURCES)[number];

/** In bytes. */
export interface GpuMemory {
  readonly free: number;
  /** The largest buffer that can be relied on; null where all of its memory can be one. */
  readonly bufferMax: number | null;
  readonly source: GpuMemorySource;
}

/** What a GPU is taken to have of which nothing is known: what most cards of the last years have at least. */
export const GUESSED_GPU_BYTES = 8e9;

/**
 * What every driver of Vulkan 1.1 and DirectX 12 gives in one piece. WebGPU tells its limits to nobody behind ONNX Runtime, which
 * splits a buffer that is larger than can be bound at once, but not one that is larger than can be had.
 */
const BUFFER_BYTES_MAX = 2 ** 30;
const WITH_SMALL_BUFFERS: readonly Device[] = ['webgpu', 'dml'];

/** The share of a Mac's memory that Metal lets its GPU work with, where the machine has not much. */
const UNIFIED_SHARE = 2 / 3;

const QUERY_MS_MAX = 5_000;
const MIB = 2 ** 20;

/** What is asked; other answers in tests. */
export interface GpuWorld {
  readonly platform: NodeJS.Platform;
  /** What a program prints; null where it fails. */
  readonly run: (program: string, args: readonly string[]) => Promise<string | null>;
  /** Names in a directory, none where there is none; the text of a file, null likewise. */
  readonly list: (path: string) => Promise<readonly string[]>;
  readonly read: (path: string) => Promise<string | null>;
  readonly totalBytes: number;
}

const THIS_MACHINE: GpuWorld = {
  platform: process.platform,
  run: async (program, args) => {
    const run = promisify(execFile)(program, args, { timeout: QUERY_MS_MAX });
    return run.then(
      ({ stdout }) => stdout,
      () => null,
    );
  },
  list: (path) => readdir(path).catch(() => []),
  read: (path) => readFile(path, 'utf8').catch(() => null),
  totalBytes: totalmem(),
};

/** Whether its memory is another than the processor's, so far as planning goes. */
export function isGpu(device: Device | 'auto'): device is Device {
  return device !== 'auto' && GPU_DEVICES.includes(device);
}

/** What --gpu-memory says in GB, in bytes; null for nothing. */
export function gpuBytes(gigabytes: number | null): number | null {
  return gigabytes === null ? null : Math.floor(1e9 * gigabytes);
}

/** `asked`: bytes, of --gpu-memory; null for none. Where there are several cards, the one with the least free memory counts. */
export async function gpuMemory(
  device: Device,
  asked: number | null,
  world: GpuWorld = THIS_MACHINE,
): Promise<GpuMemory> {
  const bufferMax = WITH_SMALL_BUFFERS.includes(device) ? BUFFER_BYTES_MAX : null;
  if (asked !== null) return { free: asked, bufferMax, source: 'asked' };
  const free = await freeBytes(world);
  return free === null
    ? { free: GUESSED_GPU_BYTES, bufferMax, source: 'guessed' }
    : { free, bufferMax, source: 'known' };
}

async function freeBytes(world: GpuWorld): Promise<number | null> {
  if (world.platform === 'darwin') return Math.floor(UNIFIED_SHARE * world.totalBytes);
  const query = ['--query-gpu=memory.free', '--format=csv,noheader,nounits'];
  const printed = await world.run('nvidia-smi', query);
  const cards = (printed ?? '').trim().split('\n').map(Number);
  if (cards.every((free) => free > 0)) return MIB * Math.min(...cards);
  return world.platform === 'linux' ? freeOfAmd(world) : null;
}

const DRM = '/sys/class/drm';
/** A processor's own graphics keep so little apart, and work in the machine's memory. */
const APART_BYTES_MIN = 2 ** 31;

async function freeOfAmd({ list, read }: GpuWorld): Promise<number | null> {
  let least: number | null = null;
  for (const name of await list(DRM)) {
    if (!/^card\d+$/.test(name)) continue;
    const of = async (file: string): Promise<number> =>
      Number((await read(join(DRM, name, 'device', file))) ?? NaN);
    const total = await of('mem_info_vram_total');
    const free = total - (await of('mem_info_vram_used'));
    if (total >= APART_BYTES_MIN && free > 0) least = Math.min(free, least ?? Infinity);
  }
  return least;
}

/** To plan with. `refuse`: as MachineMemory; what a guess says is too large is tried all the same. */
export function onGpu(device: Device, memory: GpuMemory, refuse: boolean): MachineMemory {
  const { free, bufferMax, source } = memory;
  return {
    processBytes: 0,
    free,
    refuse: refuse && source !== 'guessed',
    gpu: { device, bufferMax, source },
  };
}
