/**
 * Members of a run that want to be somebody's only company: each has an address of its own in one network, dials whomever it hears of,
 * and passes nothing on. Arguments: the address of a bootstrap node, then the addresses to listen on. Ends with SIGTERM.
 */
import '../../node/net/polyfill.js';
import { Dialler } from '../../node/net/dialler.js';
import { GossipTransport } from '../../node/net/gossip-transport.js';
import { createHost } from '../../node/net/host.js';
import { createIdentity } from '../../node/net/identity.js';
import { askRuns, serveIntroductions } from '../../node/net/introduce.js';
import { RunRegistry } from '../../node/net/run-registry.js';
import { silent } from '../net/harness.js';

const [contact = '', ...listen] = process.argv.slice(2);

async function startMember(address: string): Promise<void> {
  const host = await createHost({
    identity: await createIdentity(),
    listen: [address],
    dht: 'client',
  });
  const [known] = await askRuns(host, contact, AbortSignal.timeout(30_000));
  if (known === undefined) throw new Error('the bootstrap node knows no run');
  const registry = new RunRegistry({ own: known.run });
  const transport = new GossipTransport(host, known.run.id, silent);
  await transport.start({
    onGossip: () => 'ignore',
    onStream: (_kind, stream) => {
      stream.abort(new Error('deaf'));
      return Promise.resolve();
    },
    onConnect: () => undefined,
    onDisconnect: () => undefined,
    isMember: () => true,
  });
  const self = () => ({ peerId: host.peerId, addresses: host.addresses() });
  await serveIntroductions(host, { registry, self, door: null }, silent);
  const dialler = new Dialler({
    host,
    run: known.run,
    registry,
    contacts: [contact],
    known: known.peers,
    connected: () => transport.connections().map(({ peerId }) => peerId),
    saveKnown: () => Promise.resolve(),
    logger: silent,
    // Nobody is left out for long.
    roamIntervalMs: 1_000,
  });
  dialler.start();
  process.stdout.write(`${host.peerId}\n`);
}

for (const address of listen) await startMember(address);
