/** One bootstrap node and one peer an office, each its own process, from their start to the last epoch. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { bootstrapCommand, joinCommand, startCommand } from './commands.js';
import { COMMAND_LINE, DATA_DIRECTORY } from './paths.js';
import { Program } from './processes.js';
import type { Progress } from './progress.js';
import { allFinished, fetchStatus, type PeerStatus } from './status.js';
import type { Watch } from './watch.js';

const LOOPBACK_ADDRESS = /\/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\/\w+/;

/** A peer as a person sees it: a data directory, a process, a status page. */
export interface Peer {
  office: string;
  dir: string;
  dataFile: string;
  program: Program;
  /** Null until its status server runs. */
  url: string | null;
}

/** Everything that was started, so that all of it can be stopped. */
export class Swarm {
  readonly #programs: Program[] = [];
  readonly peers: Peer[] = [];

  /** `directory` gets a data directory and a log file for each process. */
  constructor(readonly directory: string) {}

  /** Starts `murmurate ...args` as a process that `stop` will end. */
  run(name: string, args: readonly string[]): Program {
    const program = new Program(name, [COMMAND_LINE, ...args], join(this.directory, `${name}.log`));
    this.#programs.push(program);
    return program;
  }

  /** The first office founds the run, the others join it. */
  async start(offices: readonly string[], watch: Watch, progress: Progress): Promise<void> {
    progress.say('Starting a bootstrap node, which introduces peers and never trains.');
    const node = this.run('bootstrap', bootstrapCommand(join(this.directory, 'bootstrap')));
    const bootstrap = await watch.until('the address of the bootstrap node', async () => {
      node.assertAlive();
      return LOOPBACK_ADDRESS.exec(node.stdout)?.[0] ?? null;
    });
    for (const [i, office] of offices.entries()) {
      progress.say(
        i === 0
          ? `Starting the ${office}, which founds the run.`
          : `Starting the ${office}, which joins through ${bootstrap}.`,
      );
      const dir = join(this.directory, office);
      const dataFile = join(DATA_DIRECTORY, `${office}.jsonl`);
      const command = i === 0 ? startCommand : joinCommand;
      const program = this.run(office, command(dir, dataFile, bootstrap));
      const peer: Peer = { office, dir, dataFile, program, url: null };
      this.peers.push(peer);
      // The others can join once the founder is there.
      if (i === 0) await this.#awaitStatusPage(peer, watch);
    }
    await Promise.all(this.peers.map((peer) => this.#awaitStatusPage(peer, watch)));
  }

  /** Shows the training until all have finished with one adapter; their last statuses. */
  async train(watch: Watch, progress: Progress): Promise<PeerStatus[]> {
    const names = this.peers.map(({ office }) => office);
    progress.say("Training. Each peer's held-out loss, of the base model -> now:");
    try {
      return await watch.until('all peers to finish with the same adapter', async () => {
        for (const { program } of this.peers) program.assertAlive();
        const statuses = await this.#statuses(watch.signal);
        progress.training(names, statuses);
        watch.awaiting(whatIsMissing(names, statuses));
        return allFinished(statuses) ? statuses.filter((status) => status !== null) : null;
      });
    } finally {
      progress.trainingEnded();
    }
  }

  /** Ends all processes; resolves when they are gone, at most STOP_GRACE_MS and a moment later. */
  async stop(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()));
  }

  #statuses(signal: AbortSignal): Promise<(PeerStatus | null)[]> {
    return Promise.all(
      this.peers.map(async ({ url }) => (url === null ? null : fetchStatus(url, signal))),
    );
  }

  async #awaitStatusPage(peer: Peer, watch: Watch): Promise<void> {
    peer.url ??= await watch.until(`the status page of the ${peer.office}`, async () => {
      peer.program.assertAlive();
      return readUrl(join(peer.dir, 'http'), watch.signal);
    });
  }
}

/** A peer writes the URL of its status page into its data directory; null before that. */
async function readUrl(file: string, signal: AbortSignal): Promise<string | null> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch {
    return null;
  }
  const url = text.split('\n')[0]?.trim() ?? '';
  if (!URL.canParse(url)) return null;
  // A line left over from an earlier process would name a port that nobody answers on.
  return (await fetchStatus(url, signal)) === null ? null : url;
}

/** "the clinic to finish (training, epoch 7 of 24) and ...". */
function whatIsMissing(names: readonly string[], statuses: readonly (PeerStatus | null)[]): string {
  const missing = names.flatMap((name, i) => {
    const status = statuses[i] ?? null;
    if (status === null) return [`the ${name} to answer`];
    const { state, epoch, epochsMax } = status.run;
    const why = status.attention.map((sentence) => ` (it says: ${sentence})`).join('');
    return state === 'finished'
      ? []
      : [`the ${name} to finish (${state}, epoch ${epoch} of ${epochsMax})${why}`];
  });
  if (missing.length > 0) return missing.join(' and ');
  const hashes = statuses.map((status) => status?.adapter.sha256.slice(0, 16) ?? '?');
  return `the peers to agree on one adapter (they have ${hashes.join(', ')})`;
}
