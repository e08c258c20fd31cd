#!/usr/bin/env node
/** Entry point of the command line: signals in, exit code out. The polyfill comes before any libp2p. */
import './net/polyfill.js';
import { bootstrapVerb } from './cli/bootstrap.js';
import { compareVerb } from './cli/compare.js';
import { dataVerb } from './cli/data.js';
import { evalVerb } from './cli/eval.js';
import { exportVerb } from './cli/export.js';
import { extendVerb } from './cli/extend.js';
import { generateVerb } from './cli/generate.js';
import { inviteVerb } from './cli/invite.js';
import { joinVerb } from './cli/join.js';
import { leaveVerb } from './cli/leave.js';
import { pauseVerb } from './cli/pause.js';
import { runProgram } from './cli/program.js';
import { resumeVerb } from './cli/resume.js';
import { simulateVerb } from './cli/simulate.js';
import { startVerb } from './cli/start.js';
import { statusVerb } from './cli/status.js';
import { swarmKeyVerb } from './cli/swarm-key.js';
import { whatLeavesVerb } from './cli/what-leaves.js';
import { EXIT_INTERRUPTED } from './errors.js';

/** A process that was told to stop is gone after this long, in ms; what counts of a peer is on disk before. */
const STOP_MS_MAX = 4_500;

const VERBS = [
  startVerb,
  joinVerb,
  bootstrapVerb,
  inviteVerb,
  swarmKeyVerb,
  statusVerb,
  whatLeavesVerb,
  pauseVerb,
  resumeVerb,
  leaveVerb,
  extendVerb,
  exportVerb,
  generateVerb,
  evalVerb,
  compareVerb,
  dataVerb,
  simulateVerb,
];

/** Exit code when a stop takes too long: an unfinished export must not look like a whole one. */
const isStaying = VERBS.some(({ name, stays }) => stays === true && name === process.argv[2]);
const exitCodeWhenCut = isStaying ? 0 : EXIT_INTERRUPTED;

const interruption = new AbortController();
function interrupt(): void {
  if (interruption.signal.aborted) process.exit(EXIT_INTERRUPTED);
  interruption.abort(new DOMException('interrupted', 'AbortError'));
  // A connection that does not close must not keep the process.
  setTimeout(() => process.exit(exitCodeWhenCut), STOP_MS_MAX).unref();
}
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, interrupt);
// A reader that went away (`murmurate status | head`) is no fault.
process.stdout.on('error', () => undefined);

const exitCode = await runProgram(VERBS, process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  terminal: process.stderr.isTTY,
  signal: interruption.signal,
  interrupt,
});
// libp2p may still hold timers and sockets.
process.exit(exitCode);
