/** Checks of the network: whether this peer can listen, who could dial it, whether the nodes that it is given answer. */
import { networkInterfaces } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { UserError } from '../errors.js';
import { createLogger } from '../log.js';
import { isOpenInternet, parseAddress, peerIdOf, parsePeerId } from '../net/addresses.js';
import type { Host } from '../net/host.js';
import { createIdentity } from '../net/identity.js';
import { askRuns } from '../net/introduce.js';
import { judge } from '../net/reachability.js';
import type { Router } from '../net/router.js';
import type { KnownRun } from '../net/run-registry.js';
import type { SwarmKey } from '../net/swarm-key.js';
import type { StatusReport } from '../status.js';
import { fail, ok, warn, type Finding } from './finding.js';
import { listenerOn } from './ports.js';

/** A router answers at once, or never. */
const ROUTER_MS_MAX = 3_000;

/** A contact that can be reached answers within seconds, and dials back within some more. */
const CONTACT_MS_MAX = 10_000;

/** Before a contact that could not be reached is dialled once more. */
const SECOND_TRY_MS = 1_000;

export interface NetworkSettings {
  listen: readonly string[];
  /** Bootstrap nodes or peers. */
  contacts: readonly string[];
  swarmKey: SwarmKey | null;
  /** Who runs in the data directory, and what that peer says; null where nobody does. */
  running: { holder: string; report: StatusReport | null } | null;
}

/** Listens as a peer would, under a peer id of its own, and has each contact look at it. */
export async function checkNetwork(
  settings: NetworkSettings,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { listen, contacts, swarmKey, running } = settings;
  let host: Host;
  const findings: Finding[] = [];
  if (running !== null) {
    findings.push(ok(`${running.holder} runs here as a peer and has the port`));
    if (running.report !== null) findings.push(reachFinding(running.report.reachability));
  }
  try {
    const places =
      running === null ? listen : listen.map((one) => one.replace(/\/tcp\/\d+/, '/tcp/0'));
    const { createHost } = await import('../net/host.js');
    host = await createHost({ identity: await createIdentity(), listen: places, swarmKey });
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return [...findings, fail(error.message, await portFix(listen))];
  }
  try {
    const port = host.listenPort();
    if (running === null)
      findings.push(ok(`it can listen on ${listen.join(', ')} (now on port ${port ?? 0})`));
    const { serveReach } = await import('../net/reach.js');
    const stop = await serveReach(host, createLogger({ level: 'silent', format: 'text' }));
    const ofContacts = contacts.map((contact) => checkInTime(host, contact, signal));
    findings.push(...(await Promise.all(ofContacts)).flat());
    await stop();
    return findings;
  } finally {
    await host.stop();
  }
}

/** Who has the port, where that can be seen. */
async function portFix(listen: readonly string[]): Promise<string> {
  for (const address of listen) {
    const port = Number(/\/tcp\/(\d+)/.exec(address)?.[1] ?? 0);
    const owner = port === 0 ? null : await listenerOn(port);
    if (owner !== null)
      return `stop ${owner}, which has port ${port}, or give another port with --listen`;
  }
  return 'murmurate start --listen /ip4/0.0.0.0/tcp/0';
}

/** As checkContact; one that takes too long keeps nobody waiting. */
async function checkInTime(host: Host, contact: string, signal: AbortSignal): Promise<Finding[]> {
  const late = AbortSignal.timeout(CONTACT_MS_MAX);
  try {
    return await checkContact(host, contact, AbortSignal.any([signal, late]));
  } catch (error) {
    signal.throwIfAborted();
    if (!late.aborted) throw error;
    return [
      fail(
        `${contact} did not answer and dial back within ${CONTACT_MS_MAX / 1000} s`,
        'check that it runs and that a firewall lets it through, or name another --bootstrap',
      ),
    ];
  }
}

/** Dials, asks for introductions, and has the other side dial back. */
async function checkContact(host: Host, contact: string, signal: AbortSignal): Promise<Finding[]> {
  const startMs = performance.now();
  let runs;
  try {
    runs = await askTwice(host, contact, signal);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return [fail(error.message)];
  }
  const dialMs = Math.round(performance.now() - startMs);
  const againMs = performance.now();
  await askRuns(host, contact, signal);
  const latencyMs = (performance.now() - againMs).toFixed(1);
  const names = runs.map(({ run }) => run.manifest.name);
  const known =
    names.length === 0
      ? 'no run yet'
      : `the ${names.length === 1 ? 'run' : 'runs'} ${names.join(', ')}`;
  const answer = ok(
    `${contact} answered after ${dialMs} ms, then within ${latencyMs} ms, and knows ${known}`,
  );
  return [answer, await dialledBack(host, contact, signal)];
}

/** Peers dial again, too: a node that has just started, or has too much to do, may cut one connection. */
async function askTwice(host: Host, contact: string, signal: AbortSignal): Promise<KnownRun[]> {
  try {
    return await askRuns(host, contact, signal);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    await delay(SECOND_TRY_MS, undefined, { signal });
    return askRuns(host, contact, signal);
  }
}

/** What `contact` finds when it dials this host, judged as a peer judges it. */
async function dialledBack(host: Host, contact: string, signal: AbortSignal): Promise<Finding> {
  const port = host.listenPort();
  const named = peerIdOf(parseAddress(contact));
  const id = named === null ? whoIsAt(host, contact) : parsePeerId(named);
  if (port === null || !id) return warn('nobody could be asked to dial back');
  try {
    const { checkReach } = await import('../net/reach.js');
    const check = { by: id.toString(), ...(await checkReach(host, id, [port], signal)) };
    const interfaces = host.addresses().map((address) => address.split('/').slice(0, 3).join('/'));
    return reachFinding(
      judge({ checks: [check], relays: [], interfaces: [...new Set(interfaces)], port }),
    );
  } catch (error) {
    signal.throwIfAborted();
    const reason = error instanceof Error ? error.message : String(error);
    return warn(
      `${contact} did not dial back (${reason}), so nothing is known of who can reach this peer`,
    );
  }
}

/** The peer that this host is connected to at `address`; undefined for one that was named by DNS beside others. */
function whoIsAt({ libp2p }: Host, address: string): ReturnType<typeof parsePeerId> | undefined {
  const connections = libp2p.getConnections();
  const at = connections.find(({ remoteAddr }) =>
    `${remoteAddr.toString()}/`.startsWith(`${address}/`),
  );
  return (connections.length === 1 ? connections[0] : at)?.remotePeer;
}

function reachFinding({ state, evidence, fix }: StatusReport['reachability']): Finding {
  const text = `${state}: ${evidence}`;
  const isPrivate = state === 'private-unreachable' || state === 'private-relayed';
  return isPrivate ? warn(text, fix) : ok(text);
}

/** Addresses of this machine: whether any is of the open internet. `addresses`: IP addresses, without loopback. */
export function checkAddresses(addresses: readonly string[]): Finding {
  if (addresses.length === 0) {
    return warn('this machine is on no network: peers on it meet each other, and nobody else');
  }
  const open = addresses.filter(isOpenInternet);
  if (open.length > 0)
    return ok(`${open.join(', ')}: others may dial it unless a firewall is in between`);
  return ok(
    `${addresses.join(', ')}: private addresses only, so others beyond this network reach it through a forwarded port or a relay`,
  );
}

export function ownAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((all) => all ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
    .map(({ address }) => address);
}

async function findAny(signal: AbortSignal): Promise<Router | null> {
  const { findRouter } = await import('../net/router.js');
  return findRouter(signal);
}

/** The router, asked by UPnP. `find`: another one in tests. */
export async function checkRouter(
  signal: AbortSignal,
  find: (signal: AbortSignal) => Promise<Router | null> = findAny,
): Promise<Finding> {
  const router = await find(AbortSignal.any([signal, AbortSignal.timeout(ROUTER_MS_MAX)]));
  signal.throwIfAborted();
  if (router === null) return ok('no router on this network forwards ports on request (UPnP)');
  const { host, externalIp } = router;
  if (externalIp === null || !isOpenInternet(externalIp)) {
    const seen =
      externalIp === null
        ? 'does not say by which address'
        : `is itself at ${externalIp}, behind another`;
    return warn(
      `the router at ${host} forwards ports (UPnP), but ${seen}`,
      'name a relay: --bootstrap ADDRESS',
    );
  }
  return ok(
    `the router at ${host} (${externalIp}) forwards ports on request: --upnp makes use of it`,
  );
}
