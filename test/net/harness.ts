/** Real hosts on loopback for the tests of this folder, and waiting with a deadline. */
import '../../node/net/polyfill.js';
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAddress } from '../../node/net/addresses.js';
import { createHost, type Host } from '../../node/net/host.js';
import { createIdentity, type NetIdentity } from '../../node/net/identity.js';
import type { Logger } from '../../node/interfaces.js';

const LOOPBACK = '/ip4/127.0.0.1/tcp/0';
const POLL_INTERVAL_MS = 20;
const DEADLINE_MS = 20_000;

/** Discards everything: the tests look at behaviour. */
export const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** Resolves when `condition` holds; fails with `what` after `deadlineMs`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  deadlineMs = DEADLINE_MS,
): Promise<void> {
  const end = Date.now() + deadlineMs;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `not in ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}

/** A host with a new identity (or the given one) on a free loopback port (or the given address). */
export async function makeHost(
  identity?: NetIdentity,
  listen = LOOPBACK,
  dht: 'client' | 'server' = 'server',
): Promise<Host> {
  return createHost({ identity: identity ?? (await createIdentity()), listen: [listen], dht });
}

/** A host that connects to nobody by itself: with DHT servers around, its neighbours would be chance. */
export async function makeQuietHost(): Promise<Host> {
  return makeHost(undefined, LOOPBACK, 'client');
}

export async function dial(from: Host, to: Host): Promise<void> {
  const address = to.addresses()[0];
  assert.ok(address !== undefined);
  await from.libp2p.dial(parseAddress(address), { signal: AbortSignal.timeout(DEADLINE_MS) });
}

/** A directory of its own for one test, and how to remove it. */
export async function makeDirectory(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'murmurate-net-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}
