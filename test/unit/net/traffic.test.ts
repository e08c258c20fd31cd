import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Stream } from '@libp2p/interface';
import { COUNTED_PEERS_MAX, TrafficMeter } from '../../../node/net/traffic.js';

/** As much of a stream as the meter touches. */
class Pipe {
  direction = 'outbound';

  constructor(readonly protocol: string) {}

  send = (): boolean => true;
  dispatchEvent = (): boolean => true;
  unshift = (): void => undefined;
  push = (): void => undefined;
}

/** A stream of `protocol` to `peerId`, tracked. */
function streamTo(meter: TrafficMeter, peerId: string | null, protocol: string): Stream {
  const stream = new Pipe(protocol) as unknown as Stream;
  meter.remoteOf = () => peerId;
  meter.trackStream(stream);
  return stream;
}

describe('TrafficMeter', () => {
  it('tells what was sent to whom, by purpose', () => {
    const meter = new TrafficMeter();
    streamTo(meter, 'a', '/ipfs/ping/1.0.0').send(new Uint8Array(32));
    streamTo(meter, 'b', '/meshsub/1.2.0').send(new Uint8Array(100));
    streamTo(meter, 'a', '/ipfs/id/push/1.0.0').send(new Uint8Array(40));
    streamTo(meter, null, '/murmurate/reach/1.0.0').send(new Uint8Array(7));
    streamTo(meter, 'a', '/unknown/1.0.0').send(new Uint8Array(9));
    const { sentTo, bytesOut } = meter.traffic();
    assert.deepEqual(sentTo, [
      { peerId: 'b', bytes: { gossip: 100 } },
      { peerId: 'a', bytes: { ping: 32, identify: 40 } },
      { peerId: null, bytes: { reach: 7 } },
    ]);
    assert.equal(bytesOut.reach, 7);
  });

  it('counts a bounded number of peers, and loses no byte of the others', () => {
    const meter = new TrafficMeter();
    const faithful = streamTo(meter, 'faithful', '/meshsub/1.2.0');
    for (let i = 0; i < 5 * COUNTED_PEERS_MAX; i++) {
      faithful.send(new Uint8Array(10));
      streamTo(meter, `stranger ${i}`, '/meshsub/1.2.0').send(new Uint8Array(1));
    }
    const { sentTo, bytesOut } = meter.traffic();
    assert.equal(sentTo.length, COUNTED_PEERS_MAX + 1);
    assert.deepEqual(sentTo[0], { peerId: 'faithful', bytes: { gossip: 50 * COUNTED_PEERS_MAX } });
    const sum = sentTo.reduce((bytes, peer) => bytes + (peer.bytes.gossip ?? 0), 0);
    assert.equal(sum, bytesOut.gossip);
  });
});
