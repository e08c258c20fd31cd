/**
 * The introduction protocol (docs/PROTOCOL.md, "Introduction"): one request, one response. A request
 * without addresses asks which runs are here (all, or one by id) and gets manifests and members; a request
 * with addresses is a member's announcement of itself and gets the other members.
 */
import './polyfill.js';
import { setImmediate } from 'node:timers/promises';
import type { Connection, PeerId, Stream } from '@libp2p/interface';
import { pbStream } from '@libp2p/utils';
import type { Multiaddr } from '@multiformats/multiaddr';
import { REFUSALS } from '../../protocol/admission.js';
import { fromHex, toHex } from '../../protocol/bytes.js';
import { InvalidManifestError } from '../../protocol/errors.js';
import { INTRODUCE_PROTOCOL_ID } from '../../protocol/ids.js';
import {
  ADDRESSES_MAX,
  ADDRESS_BYTES_MAX,
  INTRODUCTIONS_BURST,
  INTRODUCTIONS_PER_SECOND,
  MANIFEST_BYTES_MAX,
  NETWORK_INTRODUCTIONS_BURST,
  NETWORK_INTRODUCTIONS_PER_SECOND,
} from '../../protocol/limits.js';
import { decodeManifest } from '../../protocol/manifest-codec.js';
import type { Run } from '../../protocol/manifest.js';
import { IntroduceRequest, IntroduceResponse, type RunInfo } from '../../protocol/wire/messages.js';
import { SystemClock } from '../clock.js';
import { UserError } from '../errors.js';
import type { Logger } from '../interfaces.js';
import { cleanAddresses, parseAddress, parsePeerId } from './addresses.js';
import {
  IntroduceError,
  NewerProtocolError,
  NotAdmittedError,
  StreamBusyError,
  UnreachableError,
  reasonOf,
} from './errors.js';
import { ExchangeSlots } from './exchange-slots.js';
import type { Host } from './host.js';
import { originOf } from './origin.js';
import { OriginRates } from './origin-rates.js';
import type { Door, KnownRun, PeerAddresses, RunRegistry } from './run-registry.js';

/** Bytes of a request: one manifest, the addresses, and their framing. */
const REQUEST_BYTES_MAX = MANIFEST_BYTES_MAX + ADDRESSES_MAX * ADDRESS_BYTES_MAX + 1024;

/** Bytes of a response; runs that do not fit are left out. */
const RESPONSE_BYTES_MAX = 3 * 1024 * 1024;

/** Bytes that framing adds to a manifest or an address in a response. */
const ITEM_OVERHEAD_BYTES = 128;

/** One exchange may take this long at the serving side, in ms. */
const SERVE_TIMEOUT_MS = 10_000;

/** Exchanges served at one time on one connection. */
const INBOUND_STREAMS_MAX = 2;

/**
 * Exchanges served at one time over all connections: each may hold a response until its reader has taken it.
 * One takes milliseconds, and whoever is turned away comes back.
 */
export const EXCHANGES_MAX = 32;

/** An exchange that has taken so long, in ms, gives way to the next one when all slots are taken. */
const SLOW_MS = 2_000;

export const INTRODUCTION_RATES = {
  perKey: { burst: INTRODUCTIONS_BURST, perSecond: INTRODUCTIONS_PER_SECOND },
  perOrigin: { burst: NETWORK_INTRODUCTIONS_BURST, perSecond: NETWORK_INTRODUCTIONS_PER_SECOND },
};

/** What introductions are answered from. */
export interface Introducer {
  registry: RunRegistry;
  /** Listed too when this node is a member; null at a bootstrap node. */
  self: (() => PeerAddresses) | null;
  door: Door | null;
}

/** Answers introductions. Returns a stop. */
export async function serveIntroductions(
  host: Host,
  introducer: Introducer,
  logger: Logger,
): Promise<() => Promise<void>> {
  const slots = new ExchangeSlots(EXCHANGES_MAX, SLOW_MS);
  const rates = new OriginRates(new SystemClock(), INTRODUCTION_RATES);
  const serve = async (stream: Stream, connection: Connection): Promise<void> => {
    const peerId = connection.remotePeer.toString();
    const origin = originOf(peerId, connection.remoteAddr.toString());
    const busy = (): void => {
      stream.abort(new StreamBusyError('too many introductions, of this peer or at this time'));
    };
    const leave = rates.tryTake(peerId, origin) ? slots.enter(origin, busy) : null;
    if (leave === null) {
      busy();
      return;
    }
    try {
      const signal = AbortSignal.timeout(SERVE_TIMEOUT_MS);
      const pb = pbStream(stream, { maxDataLength: REQUEST_BYTES_MAX });
      const request = await pb.read(IntroduceRequest, { signal });
      const response = answer(request, { peerId, origin }, introducer);
      await pb.write(response, IntroduceResponse, { signal });
      await stream.close({ signal });
    } catch (error) {
      logger.debug({ peerId, reason: reasonOf(error) }, 'an introduction was refused');
      stream.abort(error instanceof Error ? error : new IntroduceError(String(error)));
    } finally {
      leave();
    }
  };
  await host.libp2p.handle(INTRODUCE_PROTOCOL_ID, serve, {
    maxInboundStreams: INBOUND_STREAMS_MAX,
    runOnLimitedConnection: true,
  });
  return () => host.libp2p.unhandle(INTRODUCE_PROTOCOL_ID);
}

/** @throws IntroduceError or InvalidManifestError for a request that deserves no answer. */
export function answer(
  request: IntroduceRequest,
  { peerId, origin }: { peerId: string; origin: string },
  { registry, self, door }: Introducer,
): IntroduceResponse {
  const runId = request.runId.length === 0 ? null : toHex(request.runId);
  if (runId !== null && request.runId.length !== 32)
    throw new IntroduceError('a run id has 32 bytes');
  const announces = request.addresses.length > 0;
  let isMember = false;
  if (announces) {
    if (runId === null) throw new IntroduceError('an announcement must name its run');
    const manifest = request.manifest.length === 0 ? null : request.manifest;
    const { addresses, admission = null } = request;
    try {
      isMember = registry.announce(peerId, { runId, manifest, addresses, admission, origin });
    } catch (error) {
      if (!(error instanceof NotAdmittedError)) throw error;
      return { runs: [], refusal: REFUSALS.indexOf(error.refusal) + 1 };
    }
  }
  const runs: IntroduceResponse['runs'] = [];
  let bytes = 0;
  for (const { run, peers } of registry.introduce(peerId, runId, RESPONSE_BYTES_MAX)) {
    // Who takes part in a closed run is told to its members alone, also to one that got no place.
    const told = isMember || registry.isPrivy(run, peerId) ? peers : [];
    const listed = self === null ? told : [self(), ...told];
    const manifest = announces ? new Uint8Array() : run.bytes.slice();
    const size = sizeOf(manifest, listed);
    if (bytes + size > RESPONSE_BYTES_MAX) continue;
    bytes += size;
    runs.push({ manifest, peers: listed });
  }
  const admission = announces ? (door?.admission ?? null) : null;
  return { runs, refusal: 0, ...(admission !== null && { admission }) };
}

function sizeOf(manifest: Uint8Array, peers: readonly PeerAddresses[]): number {
  let bytes = manifest.length + ITEM_OVERHEAD_BYTES;
  for (const { addresses } of peers) {
    bytes += ITEM_OVERHEAD_BYTES;
    for (const address of addresses) bytes += address.length + ITEM_OVERHEAD_BYTES;
  }
  return bytes;
}

/**
 * Asks the peer or bootstrap node at `address` which runs it knows, or for the one with `runId` alone, of which it
 * then names more members.
 * @throws UserError when the address is malformed, nobody answers there, or the answer is no introduction;
 * the signal's reason when it aborts.
 */
export async function askRuns(
  host: Host,
  address: string,
  signal: AbortSignal,
  runId: string | null = null,
): Promise<KnownRun[]> {
  const target = parseAddress(address);
  try {
    const response = await exchange(
      host,
      target,
      {
        ...{ manifest: new Uint8Array(), addresses: [] },
        runId: runId === null ? new Uint8Array() : fromHex(runId),
      },
      signal,
    );
    return await decodeRuns(host, response.runs);
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof InvalidManifestError) {
      throw new UserError(
        `${address} offers no run that this version can take: ${cause.message}`,
        undefined,
        { cause },
      );
    }
    if (cause instanceof NewerProtocolError) {
      throw new UserError(`cannot join through ${address}: ${cause.message}`, undefined, { cause });
    }
    throw new UserError(
      `cannot reach ${address} (${reasonOf(cause)}): check that it runs, that the address is complete, and ` +
        (host.swarmKey === null
          ? 'whether its network is private (--swarm-key)'
          : 'that it has the same swarm key'),
      undefined,
      { cause },
    );
  }
}

/**
 * The runs that can be decoded; others get their turn after each, for a response may name some hundred thousand
 * addresses. @throws InvalidManifestError when there are some, and none can.
 */
export async function decodeRuns(
  host: Pick<Host, 'peerId'>,
  infos: readonly RunInfo[],
): Promise<KnownRun[]> {
  const steps = decodingRuns(host, infos);
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    await setImmediate();
  }
}

/** decodeRuns() in pieces, one for each run. */
export function* decodingRuns(
  host: Pick<Host, 'peerId'>,
  infos: readonly RunInfo[],
): Generator<void, KnownRun[]> {
  const known: KnownRun[] = [];
  let fault: InvalidManifestError | null = null;
  for (const info of infos) {
    try {
      known.push({ run: decodeManifest(info.manifest), peers: cleanPeers(host, info.peers) });
    } catch (error) {
      if (!(error instanceof InvalidManifestError)) throw error;
      fault = error;
    }
    yield;
  }
  if (known.length === 0 && fault !== null) throw fault;
  return known;
}

/**
 * Tells `target` that this host is a member of `run`, and resolves with the other members it knows. The
 * manifest is sent only when the other side does not know the run. `door` says how it became one, where it was
 * invited, and learns how `target` did.
 * @throws UnreachableError when there is no answer; NotAdmittedError; the signal's reason.
 */
export async function announce(
  host: Host,
  target: PeerId | Multiaddr,
  run: Run,
  door: Pick<Door, 'admission' | 'meet'> | null,
  signal: AbortSignal,
): Promise<PeerAddresses[]> {
  const runId = fromHex(run.id);
  const addresses = cleanAddresses(host.peerId, host.addresses());
  try {
    const admission = door?.admission ?? null;
    const brief = {
      ...{ runId, manifest: new Uint8Array(), addresses },
      ...(admission !== null && { admission }),
    };
    let response = await exchange(host, target, brief, signal);
    if (response.runs.length === 0 && response.refusal === 0) {
      response = await exchange(host, target, { ...brief, manifest: run.bytes.slice() }, signal);
    }
    if (response.refusal !== 0) {
      // One that only a newer version knows is a refusal all the same.
      const refusal = REFUSALS[response.refusal - 1] ?? 'not-a-member';
      throw new NotAdmittedError(refusal, run.manifest, host.peerId);
    }
    if (response.admission) door?.meet(response.admission);
    return response.runs.flatMap(({ peers }) => cleanPeers(host, peers));
  } catch (cause) {
    signal.throwIfAborted();
    if (cause instanceof NotAdmittedError) throw cause;
    throw new UnreachableError(reasonOf(cause), { cause });
  }
}

async function exchange(
  host: Host,
  target: PeerId | Multiaddr,
  request: IntroduceRequest,
  signal: AbortSignal,
): Promise<IntroduceResponse> {
  const stream = await host.openStream(target, INTRODUCE_PROTOCOL_ID, signal);
  try {
    const pb = pbStream(stream, { maxDataLength: RESPONSE_BYTES_MAX });
    await pb.write(request, IntroduceRequest, { signal });
    const response = await pb.read(IntroduceResponse, { signal });
    await stream.close({ signal });
    return response;
  } catch (error) {
    stream.abort(error instanceof Error ? error : new IntroduceError(String(error)));
    throw error;
  }
}

/** Others' claims about where members are: only well-formed ones, and never ourselves. */
function cleanPeers(host: Pick<Host, 'peerId'>, peers: readonly PeerAddresses[]): PeerAddresses[] {
  const clean: PeerAddresses[] = [];
  for (const { peerId, addresses } of peers) {
    if (peerId === host.peerId || parsePeerId(peerId) === null) continue;
    const usable = cleanAddresses(peerId, addresses);
    if (usable.length > 0) clean.push({ peerId, addresses: usable });
  }
  return clean;
}
