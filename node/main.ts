#!/usr/bin/env node
/** Entry point of the command line: signals in, exit code out. The polyfill comes before any libp2p. */
import './net/polyfill.js';
import { runProgram } from './cli/program.js';
import { VERBS } from './cli/verbs.js';
import { EXIT_INTERRUPTED } from './errors.js';

/** A process that was told to stop is gone after this long, in ms; what counts of a peer is on disk before. */
const STOP_MS_MAX = 4_500;

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
let onCtrlC: (() => void) | null = null;
process.on('SIGINT', () => (onCtrlC ?? interrupt)());
for (const name of ['SIGTERM', 'SIGHUP'] as const) process.on(name, interrupt);
// A reader that went away (`murmurate status | head`) is no fault.
process.stdout.on('error', () => undefined);

const exitCode = await runProgram(VERBS, process.argv.slice(2), {
  stdout: process.stdout,
  stderr: process.stderr,
  answers: process.stdin.isTTY && process.stderr.isTTY ? process.stdin : null,
  terminal: process.stderr.isTTY,
  signal: interruption.signal,
  interrupt,
  onCtrlC: (handler) => void (onCtrlC = handler),
});
// libp2p may still hold timers and sockets.
process.exit(exitCode);
