/** One part of bench/gpu: tries a device as `--device` does. Its arguments: the device, and the CPU threads. */
import { DEVICES, lackOf } from '../../node/engine/devices.js';
import { probeDevice } from '../../node/train/choose-device.js';

const [name, threads = '1'] = process.argv.slice(2);
const device = DEVICES.find((one) => one === name);
if (device === undefined) throw new Error(`no device is called ${name}`);
const lack = lackOf(device);
const never = new AbortController().signal;
const report =
  lack === null
    ? await probeDevice(device, { threads: Number(threads), isTimed: true }, never)
    : { kind: 'fails', reason: lack.reason };
console.log(JSON.stringify(report));
