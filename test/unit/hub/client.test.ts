import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { HubClient, HubUnreachableError } from '../../../node/hub/client.js';

/** Begins an answer on /begun and gives none on other paths; never ends one. */
const server = createServer((request, response) => {
  if (request.url === '/begun') response.writeHead(200).write('x');
});
let url: string;
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

describe('a hub that falls silent', () => {
  const silent = (error: unknown): boolean =>
    error instanceof HubUnreachableError && error.message === 'no answer for 0.05 s';

  it('is given up before its answer and in the midst of it', async () => {
    const { signal } = new AbortController();
    const client = new HubClient({ url, token: null, signal, silentMsMax: 50 });
    await assert.rejects(client.get(`${url}/none`, {}), silent);
    const patient = new HubClient({ url, token: null, signal });
    const response = await patient.get(`${url}/begun`, {});
    await assert.rejects(async () => {
      for await (const part of client.bodyOf(response)) assert.equal(part.length, 1);
    }, silent);
  });

  it('does not keep anybody who interrupts', async () => {
    const stop = new AbortController();
    const client = new HubClient({ url, token: null, signal: stop.signal });
    const response = await client.get(`${url}/begun`, {});
    const reading = (async () => {
      for await (const part of client.bodyOf(response)) {
        assert.equal(part.length, 1);
        stop.abort(new Error('Ctrl-C'));
      }
    })();
    await assert.rejects(reading, /Ctrl-C/);
    await assert.rejects(client.get(`${url}/none`, {}), /Ctrl-C/);
  });
});
