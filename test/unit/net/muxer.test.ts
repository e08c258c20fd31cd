import '../../../node/net/polyfill.js';
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { multiaddrConnectionPair } from '@libp2p/utils';
import { calmYamux } from '../../../node/net/muxer.js';

describe('calmYamux()', () => {
  for (const when of ['is closing', 'cannot send any more']) {
    it(`opens a stream on a connection that ${when} without ending the process`, async () => {
      const [connection] = multiaddrConnectionPair();
      const muxer = calmYamux({})().createStreamMuxer(connection);
      if (when === 'is closing') void connection.close().catch(() => undefined);
      else Object.defineProperty(connection, 'writeStatus', { value: 'closed' });
      // The stream is opened in a microtask whose error nobody could catch: it would fail this file.
      await muxer.createStream().catch(() => undefined);
      await new Promise(setImmediate);
      assert.notEqual(connection.status, 'open');
    });
  }
});
