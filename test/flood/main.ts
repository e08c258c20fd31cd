/**
 * What a peer's memory does while one attacker floods it and another never reads: `npm run flood -- --seconds 60`.
 * Exit code 1 when it grows beyond the bound of docs/LIMITS.md, or when the peer makes no epochs meanwhile.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { EXIT_USAGE } from '../../node/errors.js';
import { flood, problemsOf } from './run.js';

const SECONDS = { min: 5, max: 3_600 };
const MB = 1e6;

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } });
const seconds = Number(values.seconds);
if (!(seconds >= SECONDS.min && seconds <= SECONDS.max)) {
  console.error(`--seconds ${values.seconds}: give a number from ${SECONDS.min} to ${SECONDS.max}`);
  process.exit(EXIT_USAGE);
}

const interruption = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.once(name, () => interruption.abort(new DOMException('interrupted', 'AbortError')));
}

const dir = await mkdtemp(path.join(tmpdir(), 'murmurate-flood-'));
try {
  console.log(`a swarm of two begins, then ${seconds} s of flood`);
  const report = await flood(dir, seconds, interruption.signal);
  const { before, peak, gossipBytes } = report;
  console.log(
    `resident: ${(before / MB).toFixed(0)} MB before, ${(peak / MB).toFixed(0)} MB at most`,
  );
  console.log(`gossip received: ${(gossipBytes / MB).toFixed(0)} MB`);
  console.log(`updates: ${report.updatesBefore} before, ${report.updatesAfter} after`);
  console.log(`of the member: ${report.memberBefore} before, ${report.memberAfter} after`);
  for (const problem of problemsOf(report)) {
    console.error(problem);
    process.exitCode = 1;
  }
} finally {
  await rm(dir, { recursive: true, force: true });
}
