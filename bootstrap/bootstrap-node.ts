/**
 * A bootstrap node introduces peers to each other: a DHT server and a registry of runs and their members. It tells
 * peers whether they can be dialled, and passes on what those send to each other that cannot. It joins no run: it subscribes to no gossip, trains nothing and averages nothing.
 */
import '../node/net/polyfill.js';
import { join } from 'node:path';
import { z } from 'zod';
import {
  ADDRESSES_MAX,
  ADDRESS_BYTES_MAX,
  MANIFEST_BYTES_MAX,
  RUNS_MAX,
  RUN_PEERS_MAX,
} from '../protocol/limits.js';
import type { Run } from '../protocol/manifest.js';
import { UserError } from '../node/errors.js';
import type { Logger } from '../node/interfaces.js';
import { errnoOf, makeDirectory, readIfThere, replaceFile } from '../node/files.js';
import { reasonOf } from '../node/net/errors.js';
import type { Host } from '../node/net/host.js';
import { loadOrCreateIdentity } from '../node/net/identity.js';
import { serveIntroductions } from '../node/net/introduce.js';
import { openHostOnSamePort } from '../node/net/port-memory.js';
import { serveReach } from '../node/net/reach.js';
import type { SwarmKey } from '../node/net/swarm-key.js';
import { RunRegistry } from '../node/net/run-registry.js';

/**
 * The data directory of a bootstrap node:
 *
 *   key           its Ed25519 key (mode 0600)
 *   port          the TCP port of the last start, used again when the listen address says 0
 *   registry.json runs, members and when they were last seen
 */
const FILES = { key: 'key', port: 'port', registry: 'registry.json' } as const;

const FILE_MODE = 0o600;

/** The registry is written at most this often, in ms: what a crash loses is announced again within 30 s. */
const SAVE_INTERVAL_MS = 1_000;

/** A large registry is written less often: a write may take one part in this many of the time. */
const SAVE_SHARE = 20;

/** Base64 characters of a manifest. */
const MANIFEST_LENGTH_MAX = Math.ceil(MANIFEST_BYTES_MAX / 3) * 4;

/** Characters of an origin: a network is an address or part of one, or a name. */
const ORIGIN_LENGTH_MAX = 300;

const timeMs = z.number().min(0);
/** "network " or "relay " and a network, or "key " and a peer id. */
const origin = z.string().max(ORIGIN_LENGTH_MAX);
const registrySchema = z.object({
  runs: z
    .array(
      z.object({
        manifest: z.string().max(MANIFEST_LENGTH_MAX),
        offeredBy: z.string().max(64),
        origin,
        sinceMs: timeMs,
        seenMs: timeMs,
        peers: z
          .array(
            z.object({
              peerId: z.string().max(64),
              addresses: z.array(z.string().max(ADDRESS_BYTES_MAX)).max(ADDRESSES_MAX),
              origin,
              sinceMs: timeMs,
              seenMs: timeMs,
              invitation: z.string().max(64).nullable(),
            }),
          )
          .max(RUN_PEERS_MAX),
      }),
    )
    .max(RUNS_MAX),
});

export interface BootstrapInit {
  /** Data directory; made when missing. One process at a time: the caller holds its lock. */
  dir: string;
  /** Multiaddrs to listen on, e.g. "/ip4/0.0.0.0/tcp/4001"; port 0 means the port of the last start. */
  listen: readonly string[];
  /** Of a private network, whose peers this node then introduces alone. */
  swarmKey?: SwarmKey | null;
  logger: Logger;
}

export interface BootstrapNode {
  peerId: string;
  /** What to hand to `join` and `start --bootstrap`. */
  addresses(): string[];
  /** The runs known here and how many of their members announced themselves lately. */
  runs(): { run: Run; members: number }[];
  stop(): Promise<void>;
}

/** @throws UserError when the directory, the key file or the listen address cannot be used. */
export async function startBootstrap(init: BootstrapInit): Promise<BootstrapNode> {
  const { dir, logger } = init;
  await openDirectory(dir);
  const identity = await loadOrCreateIdentity(join(dir, FILES.key));
  const { listen, swarmKey = null } = init;
  const hostInit = { identity, listen, swarmKey };
  const host = await openHostOnSamePort(join(dir, FILES.port), hostInit, logger);
  const saver = new RegistrySaver(join(dir, FILES.registry), logger);
  try {
    const registry = new RunRegistry({
      own: null,
      connected: () => host.connectedPeers(),
      onChange: () => saver.changed(),
    });
    await restore(join(dir, FILES.registry), registry, logger);
    saver.start(registry);
    const stopServing = await serveIntroductions(
      host,
      { registry, self: null, door: null },
      logger,
    );
    const stopReach = await serveReach(host, logger);
    await host.startRelay(registry);
    return nodeOf(host, registry, async () => {
      await stopReach();
      await stopServing();
      await saver.stop();
      await host.stop();
    });
  } catch (error) {
    await saver.stop();
    await host.stop();
    throw error;
  }
}

function nodeOf(host: Host, registry: RunRegistry, stop: () => Promise<void>): BootstrapNode {
  return {
    peerId: host.peerId,
    addresses: () => host.addresses(),
    runs: () => registry.list(null).map(({ run, peers }) => ({ run, members: peers.length })),
    stop,
  };
}

/** Writes the registry some time after it changed, one write at a time. */
class RegistrySaver {
  readonly #path: string;
  readonly #logger: Logger;
  #registry: RunRegistry | null = null;
  #dirty = false;
  #timer: NodeJS.Timeout | null = null;
  #saving: Promise<void> | null = null;
  /** Not before this, as performance.now(). */
  #nextMs = 0;

  constructor(path: string, logger: Logger) {
    this.#path = path;
    this.#logger = logger;
  }

  changed(): void {
    this.#dirty = true;
  }

  start(registry: RunRegistry): void {
    this.#registry = registry;
    this.#timer = setInterval(() => {
      if (this.#saving !== null || performance.now() < this.#nextMs) return;
      this.#saving = this.#save().finally(() => (this.#saving = null));
    }, SAVE_INTERVAL_MS);
  }

  async stop(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#saving;
    await this.#save();
  }

  async #save(): Promise<void> {
    if (!this.#dirty || this.#registry === null) return;
    this.#dirty = false;
    const startMs = performance.now();
    try {
      const text = JSON.stringify(this.#registry.snapshot());
      await replaceFile(this.#path, [text], FILE_MODE);
    } catch (error) {
      // The registry in memory goes on; the next interval tries again.
      this.#dirty = true;
      this.#logger.warn({ reason: reasonOf(error) }, 'the registry could not be saved');
    }
    this.#nextMs = performance.now() + SAVE_SHARE * (performance.now() - startMs);
  }
}

async function openDirectory(dir: string): Promise<void> {
  try {
    await makeDirectory(dir);
  } catch (cause) {
    throw new UserError(
      `the data directory ${dir} cannot be made (${errnoOf(cause) ?? reasonOf(cause)}): check the path and its permissions`,
      undefined,
      { cause },
    );
  }
}

/** A damaged registry is worth a warning, not a stop: members announce themselves again. */
export async function restore(path: string, registry: RunRegistry, logger: Logger): Promise<void> {
  const bytes = await readIfThere(path);
  if (bytes === null) return;
  const parsed = registrySchema.safeParse(parseJson(bytes));
  try {
    if (!parsed.success) throw parsed.error;
    registry.restore(parsed.data);
  } catch (error) {
    logger.warn({ path, reason: reasonOf(error) }, 'the registry is damaged: starting without it');
  }
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes)) as unknown;
  } catch {
    return null;
  }
}
