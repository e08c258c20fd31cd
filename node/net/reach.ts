/**
 * The reach check (docs/PROTOCOL.md, "Reach check"): whoever asks is dialled back at the address that it asks
 * from. AutoNAT of libp2p judges by four strangers in four networks; a run may have three members.
 */
import './polyfill.js';
import { noise } from '@libp2p/noise';
import type { Connection, PeerId, Stream } from '@libp2p/interface';
import { tcp } from '@libp2p/tcp';
import { pbStream } from '@libp2p/utils';

import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import { REACH_PROTOCOL_ID } from '../../protocol/ids.js';
import {
  NETWORK_REACH_CHECKS_BURST,
  NETWORK_REACH_CHECKS_PER_MINUTE,
  REACH_CHECKS_BURST,
  REACH_CHECKS_PER_MINUTE,
  REACH_PORTS_MAX,
} from '../../protocol/limits.js';
import { ReachRequest, ReachResponse } from '../../protocol/wire/messages.js';
import { SystemClock } from '../clock.js';
import type { Logger } from '../interfaces.js';
import { ReachError, StreamBusyError, reasonOf } from './errors.js';
import { protection, type Host } from './host.js';
import { ExchangeSlots } from './exchange-slots.js';
import { calmYamux } from './muxer.js';
import { originOf } from './origin.js';
import { OriginRates } from './origin-rates.js';
import type { SwarmKey } from './swarm-key.js';

/** Bytes of a request or a response: REACH_PORTS_MAX ports and one IP address. */
const MESSAGE_BYTES_MAX = 256;

/** One port may take this long to answer, in ms; a router that drops what comes in answers never. */
const PORT_TIMEOUT_MS = 3_000;

/** One check may take this long at the serving side, in ms. */
const SERVE_TIMEOUT_MS = REACH_PORTS_MAX * PORT_TIMEOUT_MS + 2_000;

/** Checks served at one time: each makes a connection to whoever asked. The origin with the most makes room. */
const CHECKS_MAX = 8;

export const REACH_RATES = {
  perKey: { burst: REACH_CHECKS_BURST, perSecond: REACH_CHECKS_PER_MINUTE / 60 },
  perOrigin: { burst: NETWORK_REACH_CHECKS_BURST, perSecond: NETWORK_REACH_CHECKS_PER_MINUTE / 60 },
};

const PORT_MAX = 65_535;

/** What came of one check. */
export interface ReachResult {
  /** Where the other side sees us, e.g. "/ip4/192.0.2.7". */
  seen: string;
  /** The TCP ports there at which it reached us. */
  ports: number[];
}

/** Dials back whoever asks. Returns a stop. */
export async function serveReach(host: Host, logger: Logger): Promise<() => Promise<void>> {
  const slots = new ExchangeSlots(CHECKS_MAX, SERVE_TIMEOUT_MS);
  const rates = new OriginRates(new SystemClock(), REACH_RATES);
  const serve = async (stream: Stream, connection: Connection): Promise<void> => {
    const peerId = connection.remotePeer;
    const origin = originOf(peerId.toString(), connection.remoteAddr.toString());
    const giveWay = new AbortController();
    const busy = (): void => {
      giveWay.abort();
      stream.abort(new StreamBusyError('too many reach checks, of this peer or at this time'));
    };
    const leave = rates.tryTake(peerId.toString(), origin) ? slots.enter(origin, busy) : null;
    if (leave === null) {
      busy();
      return;
    }
    try {
      const signal = AbortSignal.any([giveWay.signal, AbortSignal.timeout(SERVE_TIMEOUT_MS)]);
      const pb = pbStream(stream, { maxDataLength: MESSAGE_BYTES_MAX });
      const { ports } = await pb.read(ReachRequest, { signal });
      const seen = sourceOf(connection);
      const reached = await tryPorts(seen, peerId, usablePorts(ports), host.swarmKey, signal);
      await pb.write({ seen, ports: reached }, ReachResponse, { signal });
      await stream.close({ signal });
    } catch (error) {
      const fields = { peerId: peerId.toString(), reason: reasonOf(error) };
      logger.debug(fields, 'a reach check was refused');
      stream.abort(error instanceof Error ? error : new ReachError(String(error)));
    } finally {
      leave();
    }
  };
  await host.libp2p.handle(REACH_PROTOCOL_ID, serve, { maxInboundStreams: 1 });
  return () => host.libp2p.unhandle(REACH_PROTOCOL_ID);
}

/** The IP address that a connection comes from, as a multiaddr. Never one that the peer itself names. */
function sourceOf({ remoteAddr, direct }: Connection): string {
  const [network] = remoteAddr.getComponents();
  if (!direct || network === undefined || !/^ip[46]$/.test(network.name)) {
    throw new ReachError('only a direct connection says where a peer is');
  }
  return `/${network.name}/${network.value ?? ''}`;
}

/**
 * The ports at which `peerId` answers. Dialled from a node of its own, which nobody knows and which ends with
 * this check: a second connection between the two would disturb the first.
 */
async function tryPorts(
  source: string,
  peerId: PeerId,
  ports: readonly number[],
  swarmKey: SwarmKey | null,
  signal: AbortSignal,
): Promise<number[]> {
  const prober = await createLibp2p({
    transports: [tcp()],
    ...protection(swarmKey),
    connectionEncrypters: [noise()],
    streamMuxers: [calmYamux({})],
    connectionMonitor: { enabled: false },
  });
  const answers = async (port: number): Promise<boolean> => {
    const target = multiaddr(`${source}/tcp/${port}/p2p/${peerId.toString()}`);
    const timeout = AbortSignal.timeout(PORT_TIMEOUT_MS);
    try {
      const connection = await prober.dial(target, { signal: AbortSignal.any([signal, timeout]) });
      connection.abort(new ReachError('the check is over'));
      return true;
    } catch {
      return false;
    }
  };
  const reached: number[] = [];
  try {
    for (const port of ports) if (await answers(port)) reached.push(port);
  } finally {
    await prober.stop();
  }
  return reached;
}

/**
 * Asks the connected `peerId` to dial us back at `ports`.
 * @throws ReachError for an answer that makes no sense; the signal's reason; what libp2p throws without a
 * direct connection.
 */
export async function checkReach(
  host: Host,
  peerId: PeerId,
  ports: readonly number[],
  signal: AbortSignal,
): Promise<ReachResult> {
  const stream = await host.openStream(peerId, REACH_PROTOCOL_ID, signal);
  try {
    const pb = pbStream(stream, { maxDataLength: MESSAGE_BYTES_MAX });
    await pb.write({ ports: ports.slice(0, REACH_PORTS_MAX) }, ReachRequest, { signal });
    const response = await pb.read(ReachResponse, { signal });
    await stream.close({ signal });
    return usableResult(response, ports);
  } catch (error) {
    stream.abort(error instanceof Error ? error : new ReachError(String(error)));
    throw error;
  }
}

/** The ports of a request that can be dialled, each once. */
export function usablePorts(ports: readonly number[]): number[] {
  return [...new Set(ports)].filter((port) => port > 0 && port <= PORT_MAX);
}

/** What an answer to a request for `asked` says. @throws ReachError when it names no IP address. */
export function usableResult(
  { seen, ports }: ReachResponse,
  asked: readonly number[],
): ReachResult {
  if (!isIp(seen)) throw new ReachError('the answer names no IP address');
  return { seen, ports: ports.filter((port) => asked.includes(port)) };
}

function isIp(text: string): boolean {
  try {
    const names = multiaddr(text).getComponents();
    return names.length === 1 && /^ip[46]$/.test(names[0]?.name ?? '');
  } catch {
    return false;
  }
}
