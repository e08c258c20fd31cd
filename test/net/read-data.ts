/** Reads the data files it is given and prints how many records they have and the most memory it ever took, in KiB. */
import { readFileSync } from 'node:fs';
import { readRecords } from '../../node/data/readers.js';

let records = 0;
for (const file of process.argv.slice(2)) {
  const reading = readRecords(file);
  while ((await reading.next()).done !== true) records++;
}
const peak = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
process.stdout.write(JSON.stringify({ records, peakKiB: Number(peak) }));
