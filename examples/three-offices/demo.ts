/**
 * Three offices fine-tune one model together without showing each other a line of text: starts one
 * bootstrap node and three peers as processes of their own, and measures what each learned.
 *
 * Exit code 0: all peers hold the same adapter, and each is better over all offices than alone.
 * 1: they do not, or something failed. 2: wrong usage. 130: interrupted.
 */
import { mkdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';

import { askQuestions, measurePeers } from './measure.js';
import { OFFICES } from './offices.js';
import { DemoError } from './processes.js';
import { createProgress, type Progress } from './progress.js';
import { shortcomings, type Report } from './report.js';
import { MEASURING_DEADLINE_MS, TRAINING_DEADLINE_MS } from './settings.js';
import { Swarm } from './swarm.js';
import { renderReport, type Answer } from './table.js';
import { Watch } from './watch.js';

const HELP = `usage: npm start -- [--json]

Three peers on this machine, each with the private data of one office, fine-tune the embedded model
together; it takes up to five minutes on two cores. Everything they write goes to ./demo-output/.

  --json   print one JSON object on stdout instead of tables
`;

const EXIT_INTERRUPTED = 130;

/** Ctrl-C and its like. */
class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
}

async function main(): Promise<number> {
  const options = readOptions(process.argv.slice(2));
  if (typeof options === 'number') return options;
  const interruption = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interruption.abort(new InterruptedError(signal)));
  }
  const directory = resolve('demo-output', new Date().toISOString().replaceAll(/[:.]/g, '-'));
  const progress = createProgress(process.stderr);
  const swarm = new Swarm(directory);
  try {
    await mkdir(directory, { recursive: true });
    const { report, answers } = await demonstrate(swarm, options, progress, interruption.signal);
    process.stdout.write(
      options.json
        ? `${JSON.stringify(report)}\n`
        : renderReport(
            OFFICES.map(({ name }) => name),
            report,
            answers,
          ),
    );
    const failures = shortcomings(report);
    for (const sentence of options.json ? failures : []) progress.say(sentence);
    return failures.length === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof InterruptedError) {
      progress.say('Interrupted; stopping all processes.');
      return EXIT_INTERRUPTED;
    }
    if (!(error instanceof DemoError)) throw error;
    progress.say(`error: ${error.message}`);
    return 1;
  } finally {
    await swarm.stop();
  }
}

/** The options, or the exit code when there is nothing to run. */
function readOptions(args: string[]): { json: boolean } | number {
  try {
    const { values } = parseArgs({
      args,
      options: { json: { type: 'boolean' }, help: { type: 'boolean' } },
    });
    if (values.help !== true) return { json: values.json === true };
    process.stdout.write(HELP);
    return 0;
  } catch (error) {
    process.stderr.write(`error: ${(error as Error).message}\n${HELP}`);
    return 2;
  }
}

async function demonstrate(
  swarm: Swarm,
  { json }: { json: boolean },
  progress: Progress,
  interrupted: AbortSignal,
): Promise<{ report: Report; answers: Answer[] }> {
  const offices = OFFICES.map(({ name }) => name);
  const training = new Watch(TRAINING_DEADLINE_MS, interrupted);
  const statuses = await swarm
    .start(offices, training, progress)
    .then(() => swarm.train(training, progress))
    .finally(() => training.end());
  const measuring = new Watch(MEASURING_DEADLINE_MS, interrupted);
  try {
    progress.say('All peers have finished. Training each alone on its own data, to compare.');
    await swarm.stop();
    const peers = await measurePeers(swarm, statuses, measuring);
    const report = { run: statuses[0]?.run.id ?? '', peers };
    // Answers are for people to read.
    if (json) return { report, answers: [] };
    progress.say('Asking held-out questions.');
    return { report, answers: await askQuestions(swarm, measuring) };
  } finally {
    measuring.end();
  }
}

process.exitCode = await main();
