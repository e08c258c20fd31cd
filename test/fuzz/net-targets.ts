/** Decoders of what strangers and bootstrap nodes say, and of the files in which node/net remembers it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { restore } from '../../bootstrap/bootstrap-node.js';
import { UserError } from '../../node/errors.js';
import { cleanAddresses, parseAddress, parsePeerId } from '../../node/net/addresses.js';
import { IntroduceError, ReachError } from '../../node/net/errors.js';
import { loadOrCreateIdentity } from '../../node/net/identity.js';
import { answer, decodeRuns } from '../../node/net/introduce.js';
import { loadKnownPeers } from '../../node/net/known-peers.js';
import { usablePorts, usableResult } from '../../node/net/reach.js';
import { RunRegistry } from '../../node/net/run-registry.js';
import { fromHex } from '../../protocol/bytes.js';
import { InvalidManifestError } from '../../protocol/errors.js';
import { ADDRESSES_MAX, REACH_PORTS_MAX } from '../../protocol/limits.js';
import {
  IntroduceRequest,
  IntroduceResponse,
  ReachRequest,
  ReachResponse,
} from '../../protocol/wire/messages.js';
import { testIdentity, testRun } from '../support/runs.js';
import { fileOf, scratch } from './files.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

const run = testRun();
const runId = fromHex(run.id);
const self = testIdentity(0).peerId;
const asker = testIdentity(1).peerId;
const relay = testIdentity(2).peerId;
const addresses = [
  '/ip4/192.0.2.7/tcp/4001',
  `/dns4/example.org/tcp/4001/p2p/${relay}/p2p-circuit`,
];
const listed = { peerId: asker, addresses: cleanAddresses(asker, addresses) };
const origin = `key ${asker}`;
const nothing = new Uint8Array();
const silent = { debug: ignore, info: ignore, warn: ignore, error: ignore };

function ignore(): void {
  // What is logged is not what is tested here.
}

/** What a decoder of libp2p makes of `bytes`; the stream is reset for what it refuses. */
function tryDecode<T>(decode: () => T): T | null {
  try {
    return decode();
  } catch {
    return null;
  }
}

const introduceRequest: FuzzTarget = {
  seeds: [
    IntroduceRequest.encode({ runId: nothing, manifest: nothing, addresses: [] }),
    IntroduceRequest.encode({ runId, manifest: nothing, addresses }),
    IntroduceRequest.encode({ runId, manifest: run.bytes.slice(), addresses }),
  ],
  refusals: [IntroduceError, InvalidManifestError],
  run: (bytes) => {
    const request = tryDecode(() => IntroduceRequest.decode(bytes));
    if (request === null) return;
    for (const own of [run, null]) {
      const registry = new RunRegistry({ own });
      const introducer = { registry, self: () => ({ peerId: self, addresses }), door: null };
      const response = answer(request, { peerId: asker, origin }, introducer);
      assert.ok(response.runs.length <= 1);
      const snapshot = registry.snapshot();
      const again = new RunRegistry({ own: null });
      again.restore(snapshot);
      assert.deepEqual(
        again.snapshot().runs.map(({ manifest }) => manifest),
        snapshot.runs.map(({ manifest }) => manifest),
      );
    }
  },
};

const introduceResponse: FuzzTarget = {
  seeds: [
    IntroduceResponse.encode({ runs: [{ manifest: run.bytes.slice(), peers: [listed] }] }),
    IntroduceResponse.encode({ runs: [] }),
  ],
  refusals: [InvalidManifestError],
  run: async (bytes) => {
    const response = tryDecode(() => IntroduceResponse.decode(bytes));
    if (response === null) return;
    for (const { peers } of await decodeRuns({ peerId: self }, response.runs)) {
      for (const { peerId, addresses: usable } of peers) {
        assert.notEqual(peerId, self);
        checkUsable(usable);
      }
    }
  },
};

function checkUsable(usable: readonly string[]): void {
  assert.ok(usable.length <= ADDRESSES_MAX);
  for (const one of usable) assert.equal(parseAddress(one).toString(), one);
}

const reachRequest: FuzzTarget = {
  seeds: [ReachRequest.encode({ ports: [4001, 65_535] })],
  refusals: [ReachError],
  run: (bytes) => {
    const request = tryDecode(() => ReachRequest.decode(bytes));
    const ports = usablePorts(request?.ports ?? []);
    assert.ok(ports.length <= REACH_PORTS_MAX && ports.every((port) => port > 0 && port < 65_536));
  },
};

const reachResponse: FuzzTarget = {
  seeds: [ReachResponse.encode({ seen: '/ip4/192.0.2.7', ports: [4001] })],
  refusals: [ReachError],
  run: (bytes) => {
    const response = tryDecode(() => ReachResponse.decode(bytes));
    if (response === null) return;
    const { seen, ports } = usableResult(response, [4001]);
    assert.match(seen, /^\/ip[46]\/[0-9a-f.:]+$/);
    assert.ok(ports.every((port) => port === 4001));
  },
};

/** What a user types, or another peer says, where an address is due: one a line. */
const address: FuzzTarget = {
  seeds: [...addresses, `/ip6/2001:db8::1/tcp/1/p2p/${self}`].map((text) => Buffer.from(text)),
  refusals: [UserError],
  run: (bytes) => {
    const text = Buffer.from(bytes).toString('utf8');
    parsePeerId(text);
    checkUsable(cleanAddresses(asker, text.split('\n')));
    const parsed = parseAddress(text);
    assert.ok(parseAddress(parsed.toString()).equals(parsed));
  },
};

const knownPeers: FuzzTarget = {
  seeds: [Buffer.from(JSON.stringify({ peers: [listed] }))],
  refusals: [],
  run: async (bytes) => {
    const peers = await loadKnownPeers(fileOf('known-peers.json', bytes));
    for (const { addresses: usable } of peers ?? []) checkUsable(usable);
  },
};

function sampleRegistry(): RunRegistry {
  const registry = new RunRegistry({ own: null });
  registry.announce(asker, { runId: run.id, manifest: run.bytes, addresses, origin });
  return registry;
}

const registry: FuzzTarget = {
  seeds: [Buffer.from(JSON.stringify(sampleRegistry().snapshot()))],
  refusals: [],
  run: async (bytes) => {
    const restored = new RunRegistry({ own: null });
    await restore(fileOf('registry.json', bytes), restored, silent);
    for (const { peers } of restored.list(null)) {
      for (const { addresses: usable } of peers) checkUsable(usable);
    }
  },
};

await loadOrCreateIdentity(join(scratch, 'seed.key'));

const identityKey: FuzzTarget = {
  seeds: [readFileSync(join(scratch, 'seed.key'))],
  refusals: [UserError],
  run: async (bytes) => {
    const { peerId } = await loadOrCreateIdentity(fileOf('identity.key', bytes));
    assert.ok(parsePeerId(peerId));
  },
};

export const netTargets: FuzzTargets = {
  'introduce-request': introduceRequest,
  'introduce-response': introduceResponse,
  'reach-request': reachRequest,
  'reach-response': reachResponse,
  address,
  'known-peers': knownPeers,
  registry,
  'identity-key': identityKey,
};
