/** The command lines that the demonstration runs: what a person would type after "murmurate". */
import { ANSWER_TOKENS_MAX, SETTINGS } from './settings.js';

const LOOPBACK = ['--listen', '/ip4/127.0.0.1/tcp/0'];

/** Introduces the peers; keeps its key in `dir`. */
export function bootstrapCommand(dir: string): string[] {
  return ['bootstrap', '--dir', dir, ...LOOPBACK];
}

/** Founds the run, on the embedded base, and makes it known at `bootstrap` (a multiaddr). */
export function startCommand(dir: string, data: string, bootstrap: string): string[] {
  const run = {
    '--name': 'three-offices',
    // One seed: the same lora_A in every demonstration.
    '--seed': 'three-offices',
    '--epochs': SETTINGS.epochs,
    '--epoch-seconds': SETTINGS.epochSeconds,
    '--steps': SETTINGS.steps,
    '--batch-size': SETTINGS.batchSize,
    '--sequence-length': SETTINGS.sequenceLength,
    '--learning-rate': SETTINGS.learningRate,
    '--start-in': SETTINGS.startInSeconds,
  };
  const flags = Object.entries(run).flatMap(([flag, value]) => [flag, String(value)]);
  return ['start', ...peerFlags(dir, data), '--bootstrap', bootstrap, ...flags];
}

/** Takes part in the one run that `bootstrap` (a multiaddr) knows. */
export function joinCommand(dir: string, data: string, bootstrap: string): string[] {
  return ['join', bootstrap, ...peerFlags(dir, data)];
}

function peerFlags(dir: string, data: string): string[] {
  const threads = ['--threads', String(SETTINGS.threads)];
  return ['--dir', dir, '--data', data, '--http', '0', ...threads, ...LOOPBACK];
}

/** Writes the adapter of the peer in `dir` for PEFT. */
export function exportCommand(dir: string, adapterDir: string): string[] {
  return ['export', adapterDir, '--dir', dir];
}

/** Answers `prompt` greedily (the default), with the base model alone or with an exported adapter. */
export function generateCommand(prompt: string, adapterDir: string | null): string[] {
  const adapter = adapterDir === null ? ['--base'] : ['--adapter', adapterDir];
  return ['generate', prompt, ...adapter, '--max-tokens', String(ANSWER_TOKENS_MAX)];
}

/** Trains alone on the peer's own data for as long as the swarm did, and measures all on `domains`. */
export function compareCommand(
  dir: string,
  domains: readonly { office: string; dataFile: string }[],
): string[] {
  const files = domains.map(({ office, dataFile }) => `${office}=${dataFile}`);
  const threads = ['--threads', String(SETTINGS.threads)];
  return ['compare', '--dir', dir, ...threads, '--json', '--on', ...files];
}
