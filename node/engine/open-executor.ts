/** From the name of a device to what carries graphs out on it. */
import type { Device } from './devices.js';
import type { Executor } from './executor.js';
import { ortExecutor } from './ort.js';
import { openTfjsExecutor } from './tfjs/open.js';

/** A device, and the CPU threads for it and for what it leaves to the CPU: 1 to 256. */
export interface ExecutorOptions {
  readonly device: Device;
  readonly threads: number;
}

/** Throws ExecutorError when the device is known to be gone; otherwise the first `compile` tells. */
export async function openExecutor({ device, threads }: ExecutorOptions): Promise<Executor> {
  return device === 'tfjs' ? openTfjsExecutor({ threads }) : ortExecutor({ device, threads });
}
