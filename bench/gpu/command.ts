/** Runs one part of bench/gpu as a process group of its own, within a time limit. */
import { spawn } from 'node:child_process';

/** A command line, and what is in its environment besides ours. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** How a part ended. */
export interface Outcome {
  readonly seconds: number;
  readonly stdout: string;
  /** Null: it ended with exit code 0 in time. */
  readonly error: string | null;
}

/** Characters of its output and of an error that are kept. */
const OUTPUT_MAX = 1 << 20;
const ERROR_MAX = 600;

/** Never rejects. When `limitMs` has passed, the part and all that it started are killed. */
export async function runCommand(command: Command, limitMs: number): Promise<Outcome> {
  const start = performance.now();
  const child = spawn(command.program, command.args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...command.env },
    detached: true,
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout = (stdout + text).slice(-OUTPUT_MAX);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-OUTPUT_MAX);
  });
  const late = new AbortController();
  const timer = setTimeout(() => {
    late.abort();
    killGroup(child.pid);
  }, limitMs);
  const error = await new Promise<string | null>((resolve) => {
    child.once('error', ({ message }) => resolve(message));
    child.once('close', (code, signal) => {
      const how = signal === null ? `exit code ${code}` : `ended by ${signal}`;
      resolve(code === 0 ? null : `${how}: ${lastLines(stderr || stdout)}`);
    });
  });
  clearTimeout(timer);
  // What a part leaves behind would share the device with the next one.
  killGroup(child.pid);
  const seconds = (performance.now() - start) / 1000;
  const tooLong = `took longer than ${Math.round(limitMs / 1000)} s`;
  return { seconds, stdout, error: late.signal.aborted ? tooLong : error };
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nothing of it is left.
  }
}

function lastLines(text: string): string {
  const lines = text.trim().split('\n').slice(-8).join(' | ');
  return lines.length > ERROR_MAX ? `...${lines.slice(-ERROR_MAX)}` : lines;
}
