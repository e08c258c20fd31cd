/**
 * The devices that a graph can run on: where each exists, what it needs of the machine, and how a user gets
 * it. Which platform has which is as onnxruntime-node 1.30 is built; nothing here loads it.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** What can be named. */
export const DEVICES = ['cpu', 'cuda', 'dml', 'webgpu', 'coreml', 'tfjs'] as const;
export type Device = (typeof DEVICES)[number];
/** The providers of ONNX Runtime; the other one is TensorFlow.js. */
export type OrtDevice = Exclude<Device, 'tfjs'>;

/**
 * GPUs in the order in which they are tried: a vendor's own library before what runs on every card; CoreML
 * last, for it may compute in half precision.
 */
export const GPU_DEVICES: readonly Device[] = ['cuda', 'dml', 'webgpu', 'coreml'];

/** Devices that compute with bfloat16 as float16, whose numbers end at FLOAT16_MAX. */
export const WITHOUT_BFLOAT16: readonly Device[] = ['webgpu', 'coreml'];
export const FLOAT16_MAX = 65_504;

/** What is looked at to see at no cost that a device cannot be had; tests describe other machines. */
export interface Machine {
  /** As process.platform and process.arch. */
  readonly platform: string;
  readonly arch: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly exists: (path: string) => boolean;
}

const THIS_MACHINE: Machine = {
  platform: process.platform,
  arch: process.arch,
  env: process.env,
  exists: existsSync,
};

/** Why a device cannot be had. */
export interface Lack {
  /** True when no machine of this platform has it. */
  readonly isOfPlatform: boolean;
  /** Completes "cuda cannot be had: ...". */
  readonly reason: string;
}

interface DeviceFacts {
  /** `platform/arch`; null for every platform. */
  readonly platforms: readonly string[] | null;
  /** The same in words. */
  readonly where: string;
  /** What to do for it: completes "..., then it works". */
  readonly remedy: string;
  /** A reason for which trying would be in vain; null when it must be tried. */
  readonly lacking: (machine: Machine) => string | null;
}

const MAYBE = (): null => null;

const FACTS: Readonly<Record<Device, DeviceFacts>> = {
  cpu: { platforms: null, where: 'every platform', remedy: '', lacking: MAYBE },
  cuda: {
    platforms: ['linux/x64'],
    where: 'Linux on x64',
    remedy:
      "install NVIDIA's driver, CUDA 12 with cuDNN 9, and ONNX Runtime's part of it with " +
      'ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node (docs/ENGINE.md, Devices)',
    lacking: ({ exists }) => {
      if (!exists('/dev/nvidiactl') && !exists(WSL)) return 'no NVIDIA card found';
      return exists(cudaProvider()) ? null : "ONNX Runtime's CUDA libraries are not installed";
    },
  },
  dml: {
    platforms: ['win32/x64', 'win32/arm64'],
    where: 'Windows',
    remedy: "update Windows and the graphics card's driver (DirectX 12)",
    lacking: MAYBE,
  },
  webgpu: {
    platforms: ['win32/x64', 'win32/arm64', 'darwin/arm64', 'linux/x64'],
    where: 'Windows, macOS on arm64 and Linux on x64',
    remedy: "install the graphics card's driver (on Linux with Vulkan, and libvulkan.so.1)",
    lacking: ({ platform, env, exists }) => {
      if (platform !== 'linux' || env['VK_ICD_FILENAMES'] || env['VK_DRIVER_FILES']) return null;
      return ['/dev/dri', '/dev/nvidiactl', WSL].some(exists) ? null : 'no graphics card found';
    },
  },
  coreml: {
    platforms: ['darwin/arm64'],
    where: 'macOS on arm64',
    remedy: 'update macOS',
    lacking: MAYBE,
  },
  tfjs: {
    platforms: null,
    where: 'every platform',
    remedy:
      'npm install @tensorflow/tfjs-backend-wasm, or the faster @tensorflow/tfjs-node (docs/ENGINE.md, Executors)',
    lacking: MAYBE,
  },
};

/** The graphics card as Linux inside Windows sees it. */
const WSL = '/dev/dxg';

/** What is missing for `device` as far as that is seen at once; null when only trying it tells. */
export function lackOf(device: Device, machine: Machine = THIS_MACHINE): Lack | null {
  const { platforms, where, lacking } = FACTS[device];
  if (platforms !== null && !platforms.includes(`${machine.platform}/${machine.arch}`)) {
    const reason = `it exists on ${where} only, and this is ${machine.platform} on ${machine.arch}`;
    return { isOfPlatform: true, reason };
  }
  const reason = lacking(machine);
  return reason === null ? null : { isOfPlatform: false, reason };
}

/** What a user does to get a device other than the CPU, as the middle of a sentence. */
export function remedyFor(device: Device): string {
  return FACTS[device].remedy;
}

/** The library that onnxruntime-node's install script downloads for CUDA. */
function cudaProvider(): string {
  const entry = createRequire(import.meta.url).resolve('onnxruntime-node'); // <package>/dist/index.js
  const folder = join(entry, '..', '..', 'bin', 'napi-v6', 'linux', 'x64');
  return join(folder, 'libonnxruntime_providers_cuda.so');
}
