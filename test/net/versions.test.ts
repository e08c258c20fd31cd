/** Peers of a newer major version: whoever meets one is told what to do. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { PassThrough } from 'node:stream';
import { pbStream } from '@libp2p/utils';
import { findRun } from '../../node/cli/find-run.js';
import { UserError } from '../../node/errors.js';
import { Dialler } from '../../node/net/dialler.js';
import { NewerProtocolError } from '../../node/net/errors.js';
import type { Host } from '../../node/net/host.js';
import { RunRegistry } from '../../node/net/run-registry.js';
import { newerVersionOf } from '../../node/net/versions.js';
import { INTRODUCE_PROTOCOL_ID } from '../../protocol/ids.js';
import { encodeManifest } from '../../protocol/manifest-codec.js';
import { IntroduceRequest, IntroduceResponse, Manifest } from '../../protocol/wire/messages.js';
import { sampleManifest } from '../unit/manifest-sample.js';
import { makeQuietHost, silent, until } from './harness.js';

const SENTENCE = /it speaks protocol 2, this program 1: install a newer murmurate/;

describe('newerVersionOf()', () => {
  it('is the newest major version, and null where an own or no stream is among them', () => {
    const [old, two, three] = [1, 2, 3].map((major) => `/murmurate/sync/${major}.0.0`);
    assert.equal(newerVersionOf(['/ipfs/id/1.0.0', two!, '/murmurate/kad/3.1.0']), 3);
    assert.equal(newerVersionOf([two!, three!]), 3);
    for (const protocols of [[], [old!], [old!, two!], ['/meshsub/2.0.0', '/murmurate/2/x']]) {
      assert.equal(newerVersionOf(protocols), null, protocols.join());
    }
  });
});

describe('a peer of a newer major version', () => {
  let [newer, host]: Host[] = [];

  before(async () => {
    [newer, host] = await Promise.all([makeQuietHost(), makeQuietHost()]);
    for (const { name } of [{ name: 'introduce' }, { name: 'sync' }, { name: 'blob' }]) {
      await newer.libp2p.handle(`/murmurate/${name}/2.0.0`, (stream) => void stream.close());
    }
    // What every host of this version serves besides.
    await newer.libp2p.unhandle(['/murmurate/kad/1.0.0']);
  });

  after(async () => {
    await Promise.all([newer?.stop(), host?.stop()]);
  });

  function find(): Promise<unknown> {
    const io = {
      stdout: new PassThrough(),
      stderr: new PassThrough(),
      terminal: false,
      signal: AbortSignal.timeout(20_000),
      interrupt: () => undefined,
    };
    const options = { addresses: [newer!.addresses()[0]!], wanted: null, timeoutMs: Infinity };
    return findRun(host!, options, io);
  }

  it('join gives up with a sentence that says what to install', async () => {
    await assert.rejects(find(), (error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, SENTENCE);
      assert.ok(error.cause instanceof NewerProtocolError);
      return true;
    });
  });

  it('a peer that has its run says so in attention', async () => {
    const run = encodeManifest(sampleManifest());
    const dialler = new Dialler({
      host: host!,
      run,
      registry: new RunRegistry({ own: run }),
      contacts: [newer!.addresses()[0]!],
      known: [],
      connected: () => [],
      saveKnown: () => Promise.resolve(),
      logger: silent,
    });
    dialler.start();
    try {
      await until('the sentence', () =>
        dialler.attention(Date.now()).some((one) => SENTENCE.test(one)),
      );
    } finally {
      await dialler.stop();
    }
  });

  it('a run of protocol 2, with fields of its own, is named as such where the streams are ours', async () => {
    const { bytes } = encodeManifest(sampleManifest());
    const next = Manifest.encode({ ...Manifest.decode(bytes), version: 2 });
    // Field 99, a varint: nothing of version 1.
    const manifest = Uint8Array.from([...next, 0x98, 0x06, 0x01]);
    await newer!.libp2p.handle(INTRODUCE_PROTOCOL_ID, async (stream) => {
      const pb = pbStream(stream);
      await pb.read(IntroduceRequest);
      await pb.write({ runs: [{ manifest, peers: [] }] }, IntroduceResponse);
      await stream.close();
    });
    await assert.rejects(find(), (error) => {
      assert.ok(error instanceof UserError);
      assert.match(
        error.message,
        /the run uses protocol version 2, this program 1; install the version/,
      );
      return true;
    });
  });
});
