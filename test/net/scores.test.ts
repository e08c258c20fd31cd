/** What gossip's scores do between real hosts that share one address: they follow what a peer sends, not its luck. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { TopicValidatorResult } from '@chainsafe/libp2p-gossipsub';
import { gossipOptions } from '../../node/net/gossip-options.js';
import type { Host } from '../../node/net/host.js';
import type { InnerGossip } from '../../node/net/inner-gossip.js';
import { dial, makeQuietHost, until } from './harness.js';

const TOPIC = '/test/scores';
const everybody = (): boolean => true;
const GRAYLIST = gossipOptions(TOPIC, everybody).scoreThresholds?.graylistThreshold ?? 0;
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

const VERDICTS: Readonly<Record<string, TopicValidatorResult>> = {
  bad: TopicValidatorResult.Reject,
  late: TopicValidatorResult.Ignore,
};

interface Node {
  host: Host;
  gossip: InnerGossip;
  heard: string[];
}

/** Judges a message by its first word. */
async function join(host: Host): Promise<Node> {
  const gossip = await host.startGossip(TOPIC, everybody);
  const heard: string[] = [];
  gossip.topicValidators.set(TOPIC, (_from, { data }) => {
    const words = Buffer.from(data).toString();
    heard.push(words);
    return VERDICTS[words.split(' ')[0] ?? ''] ?? TopicValidatorResult.Accept;
  });
  gossip.subscribe(TOPIC);
  return { host, gossip, heard };
}

describe('the score of a peer', () => {
  let nodes: Node[];
  const scoreAtFirst = (node: Node): number => {
    const { score } = nodes[0]!.gossip;
    score.scoreCache.delete(node.host.peerId);
    return score.score(node.host.peerId);
  };
  const connect = async (node: Node): Promise<void> => {
    await dial(node.host, nodes[0]!.host);
    await until('both are subscribed to each other', () => {
      const [own, others] = [nodes[0]!.gossip, node.gossip].map((gossip) =>
        gossip.getSubscribers(TOPIC).map(String),
      );
      return (
        own?.includes(node.host.peerId) === true && others?.includes(nodes[0]!.host.peerId) === true
      );
    });
  };
  const say = async (node: Node, words: string): Promise<void> => {
    await node.gossip.publish(TOPIC, text(words));
    await until(`"${words}" is heard`, () => nodes[0]!.heard.includes(words));
  };

  beforeEach(async () => {
    const hosts = await Promise.all([1, 2, 3].map(() => makeQuietHost()));
    nodes = await Promise.all(hosts.map(join));
    for (const node of nodes.slice(1)) await connect(node);
  });
  afterEach(async () => {
    await Promise.all(nodes.map(({ host }) => host.stop()));
  });

  it('falls below the graylist for what is invalid, and not that of who shares its address', async () => {
    const [, liar, honest] = nodes as [Node, Node, Node];
    await say(honest, 'good news');
    await say(liar, 'bad news');
    await until('the liar is blamed', () => scoreAtFirst(liar) < GRAYLIST);
    assert.ok(scoreAtFirst(honest) >= 0, `${scoreAtFirst(honest)}`);
    await until('the liar has no place in the mesh', () => {
      return !nodes[0]!.gossip.getMeshPeers(TOPIC).includes(liar.host.peerId);
    });
    await say(honest, 'good news again');
  });

  it('is not shed by connecting anew', async () => {
    const [first, liar] = nodes as [Node, Node];
    for (let i = 0; i < 3; i++) await say(liar, `bad ${i}`);
    // At once, while the score that gossipsub remembers is still the old one.
    await liar.host.libp2p.hangUp(first.host.libp2p.peerId);
    await until('it is gone', () => {
      return first.host.libp2p.getConnections(liar.host.libp2p.peerId).length === 0;
    });
    await dial(liar.host, first.host);
    await until('it is back', () =>
      first.gossip.getPeers().some((id) => liar.host.libp2p.peerId.equals(id)),
    );
    assert.ok(scoreAtFirst(liar) < GRAYLIST, `${scoreAtFirst(liar)}`);
  });

  it('never falls for what is late, deferred, heard twice or sent by a peer that comes and goes', async () => {
    const [first, honest] = nodes as [Node, Node];
    for (let i = 0; i < 20; i++) await say(honest, `late ${i}`);
    assert.ok(scoreAtFirst(honest) >= 0, `late: ${scoreAtFirst(honest)}`);
    for (let i = 0; i < 3; i++) {
      // A restart forgets that it was told to wait before it grafts again.
      await honest.host.stopGossip();
      nodes[1] = await join(honest.host);
      await honest.host.libp2p.hangUp(first.host.libp2p.peerId);
      await connect(nodes[1]);
      await say(nodes[1], `restart ${i}`);
      assert.ok(scoreAtFirst(honest) >= 0, `restart ${i}: ${scoreAtFirst(honest)}`);
    }
  });

  it('is not to be had by giving a bad and a good message one name', () => {
    const { msgIdFn, fastMsgIdFn } = gossipOptions(TOPIC, everybody);
    const from = nodes[1]!.host.libp2p.peerId;
    const key = from.publicKey;
    assert.ok(msgIdFn && fastMsgIdFn && key?.type === 'Ed25519');
    const ids = ['bad', 'good', 'good'].map((words) => {
      const fields = { topic: TOPIC, data: text(words), signature: new Uint8Array(), key };
      const message = { type: 'signed', from, sequenceNumber: 7n, ...fields } as const;
      const seqno = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 7);
      const raw = { topic: TOPIC, from: from.toMultihash().bytes, seqno, data: text(words) };
      return [Buffer.from(msgIdFn(message) as Uint8Array).toString('hex'), fastMsgIdFn(raw)];
    });
    assert.notEqual(ids[0]![0], ids[1]![0]);
    assert.notEqual(ids[0]![1], ids[1]![1]);
    assert.deepEqual(ids[1], ids[2]);
  });
});
