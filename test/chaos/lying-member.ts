/**
 * A member that lies, on a real network, until it is killed: `lying-member.js ADDRESS`. It does what hostile members
 * of the simulator do (test/sim/hostile), but proves nothing against anybody, itself or a key made for that: a store with a
 * proof in it is a finding of a chaos run.
 */
import '../../node/net/polyfill.js';
import { setTimeout as delay } from 'node:timers/promises';
import { parseAddress } from '../../node/net/addresses.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import { createHost } from '../../node/net/host.js';
import { createIdentity } from '../../node/net/identity.js';
import { askRuns } from '../../node/net/introduce.js';
import { Prng } from '../../protocol/prng.js';
import { HostileMember } from '../sim/hostile/member.js';
import { act } from '../sim/hostile/messages.js';
import { HOSTILE_ACTS } from '../sim/hostile/plan.js';
import { pick } from '../sim/hostile/settings.js';
import { silent } from '../net/harness.js';

/** Acts in an epoch, on average. */
const ACTS_PER_EPOCH = 3;

/** What leaves proofs. */
const PROOFS: readonly string[] = ['equivocate', 'own-proof', 'throw-away-proofs'];

const [address = ''] = process.argv.slice(2);
const identity = await createIdentity();
const listen = ['/ip4/0.0.0.0/tcp/4001'];
const host = await createHost({ identity, listen, dht: 'client' });
const [known] = await askRuns(host, address, AbortSignal.timeout(30_000));
if (known === undefined) throw new RangeError(`no run at ${address}`);
const { run } = known;
const transport = new GossipTransport(host, run.id, silent);
const place = { run, transport, now: () => Date.now(), sleep: (ms: number) => delay(ms) };
const member = new HostileMember(
  place,
  identity,
  'careful',
  new Prng(new Uint8Array(32), 'answers'),
);
member.givesProofs = false;
await member.start();
for (const { addresses } of known.peers) {
  for (const one of addresses) {
    const signal = AbortSignal.timeout(5_000);
    await host.libp2p.dial(parseAddress(one), { signal }).catch(() => undefined);
  }
}
// Whoever started it waits for this.
process.stdout.write('begun\n');
const random = new Prng(new Uint8Array(32), 'acts');
const kinds = HOSTILE_ACTS.filter((kind) => !PROOFS.includes(kind));
for (;;) {
  await delay(((0.5 + random.nextFloat()) * run.manifest.schedule.epochMs) / ACTS_PER_EPOCH);
  const victims = transport.connections().map(({ peerId }) => peerId);
  if (victims.length > 0) act(member, pick(random, kinds), random, victims);
}
