/** One peer of a soak: everything that `murmurate join` puts together, but with a trainer that costs nothing. */
import { SystemClock } from '../../node/clock.js';
import { RunningPeer, type ClosableTrainer } from '../../node/compose.js';
import { openHome } from '../../node/home.js';
import { startHttpServer, type HttpServer } from '../../node/http/server.js';
import type { Logger } from '../../node/interfaces.js';
import type { Host } from '../../node/net/host.js';
import { openHostOnSamePort } from '../../node/net/port-memory.js';
import { statusReportSchema, type StatusReport } from '../../node/status.js';
import type { Run } from '../../protocol/manifest.js';
import { SyntheticTrainer, type Problem } from '../../node/sim/synthetic-trainer.js';

const LISTEN = ['/ip4/127.0.0.1/tcp/0'];

/** A step takes so long, in ms, as sleep: the machine is for the network. */
const STEP_MS = 20;

const ANSWER_MS_MAX = 5_000;

export interface SoakNodeInit {
  index: number;
  dir: string;
  run: Run;
  problem: Problem;
  contacts: readonly string[];
  logger: Logger;
}

export class SoakNode {
  readonly host: Host;
  readonly #peer: RunningPeer;
  readonly #page: HttpServer;
  readonly #unlock: () => Promise<void>;

  private constructor(
    host: Host,
    peer: RunningPeer,
    page: HttpServer,
    unlock: () => Promise<void>,
  ) {
    this.host = host;
    this.#peer = peer;
    this.#page = page;
    this.#unlock = unlock;
  }

  /** Takes part in the run from what is in `dir`, as a process does at its start. */
  static async start({ index, dir, run, ...init }: SoakNodeInit): Promise<SoakNode> {
    const { logger, contacts } = init;
    const home = await openHome(dir, (sentence) => logger.error({}, sentence));
    if (home.run === null) await home.directory.writeManifest(run.bytes);
    const { identity } = home;
    const path = home.directory.pathOf('port');
    const host = await openHostOnSamePort(path, { identity, listen: LISTEN }, logger);
    const trainer = trainerOf(init.problem, index);
    const here = {
      mdns: false,
      relay: true,
      members: [],
      isResting: false,
      privacy: null,
      sharedModel: null,
      logBytesMax: Infinity,
    };
    const parts = { home, run, host, trainer, contacts, logger };
    const peer = new RunningPeer({ ...parts, ...here, measuresPersonal: true });
    await peer.start();
    const page = await startHttpServer({
      port: 0,
      peer: { status: () => peer.status(), history: () => [], registries: () => [] },
    });
    return new SoakNode(host, peer, page, () => home.lock.release());
  }

  /** As its status server says it. */
  async status(): Promise<StatusReport> {
    const response = await fetch(`${this.#page.url}/status`, {
      // Sockets that the client keeps would be counted as the peer's.
      headers: { connection: 'close' },
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    return statusReportSchema.parse(await response.json());
  }

  /** Rejects when the peer cannot go on. */
  get done(): Promise<void> {
    return this.#peer.done;
  }

  async stop(): Promise<void> {
    await this.#page.stop();
    await this.#peer.stop();
    await this.#unlock();
  }
}

function trainerOf(problem: Problem, index: number): ClosableTrainer {
  const options = { stepMs: STEP_MS, learningRate: 0.1, seed: new Uint8Array(32) };
  const trainer = new SyntheticTrainer(problem, index, new SystemClock(), options);
  return Object.assign(trainer, { attention: [], close: () => Promise.resolve() });
}
