import assert from 'node:assert/strict';
import { request } from 'node:http';
import { connect } from 'node:net';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { UserError } from '../../../node/errors.js';
import type { PeerView } from '../../../node/http/routes.js';
import { startHttpServer, type HttpServer } from '../../../node/http/server.js';
import { statusReportSchema, type StatusReport } from '../../../node/status.js';
import { sampleStatus } from '../status-sample.js';

let report: StatusReport | null = sampleStatus();
let server: HttpServer;
const peer: PeerView = { status: () => report, history: () => [], registries: () => [] };

before(async () => {
  server = await startHttpServer({ port: 0, peer });
});
after(() => server.stop());

/** A request with any Host header, which fetch() would not let us set. */
async function ask(
  path: string,
  options: { host?: string; method?: string; headers?: Record<string, string> } = {},
): Promise<{ status: number; body: string; headers: NodeJS.Dict<string | string[]> }> {
  const host = options.host ?? `127.0.0.1:${server.port}`;
  const outgoing = request({
    host: '127.0.0.1',
    port: server.port,
    path,
    method: options.method ?? 'GET',
    headers: { ...options.headers, host },
    agent: false,
    signal: AbortSignal.timeout(10_000),
  });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [import('node:http').IncomingMessage];
  return {
    status: response.statusCode ?? 0,
    body: await text(response),
    headers: response.headers,
  };
}

describe('the local HTTP server', () => {
  it('answers GET /status with a report that fits the schema', async () => {
    const { status, body, headers } = await ask('/status');
    assert.equal(status, 200);
    assert.match(String(headers['content-type']), /^application\/json/);
    assert.deepEqual(statusReportSchema.parse(JSON.parse(body)), report);
  });

  it('says in /healthz whether training goes on', async () => {
    assert.equal((await ask('/healthz')).status, 200);
    for (const state of ['paused', 'broken'] as const) {
      report = { ...sampleStatus(), run: { ...sampleStatus().run, state } };
      const { status, body } = await ask('/healthz');
      assert.equal(status, 503);
      assert.equal((JSON.parse(body) as { state: string }).state, state);
    }
    report = sampleStatus();
  });

  it('answers 503 while the peer is not ready', async () => {
    report = null;
    assert.equal((await ask('/status')).status, 503);
    assert.equal((await ask('/healthz')).status, 503);
    assert.equal((await ask('/metrics')).status, 503);
    report = sampleStatus();
  });

  it('answers 404 elsewhere, and names what is there', async () => {
    const { status, body } = await ask('/etc/passwd');
    assert.equal(status, 404);
    assert.match(body, /\/status/);
  });

  it('lets its page load from this server alone, and lets no text become markup', async () => {
    for (const path of ['/', '/page.js', '/page.css', '/favicon.svg']) {
      const { status, headers } = await ask(path);
      // Without a build there is no page: the policy holds for what is served.
      if (status === 503) continue;
      const policy = String(headers['content-security-policy']);
      assert.match(policy, /^default-src 'none'; script-src 'self';/);
      assert.match(policy, /require-trusted-types-for 'script'; trusted-types 'none'/);
      assert.doesNotMatch(policy, /unsafe|http|\*/);
    }
  });

  it('answers GET /metrics in the text format of Prometheus', async () => {
    const { status, body, headers } = await ask('/metrics');
    assert.equal(status, 200);
    assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/);
    assert.match(body, /^murmurate_training_steps_total 31$/m);
    assert.match(body, /^process_resident_memory_bytes \d+/m);
  });

  it('accepts the names of this machine, in any case and with any port, as behind a tunnel', async () => {
    for (const name of ['127.0.0.1', 'localhost', 'LocalHost', '[::1]']) {
      for (const host of [`${name}:${server.port}`, `${name}:9999`, name]) {
        assert.equal((await ask('/status', { host })).status, 200, host);
      }
    }
  });

  it('refuses any other Host header, so that a rebound DNS name reads nothing', async () => {
    const others = [
      `evil.example:${server.port}`,
      `localhost.evil.example:${server.port}`,
      `127.0.0.1.evil.example:${server.port}`,
      '127.0.0.2',
    ];
    for (const host of others) {
      const { status, body } = await ask('/status', { host });
      assert.equal(status, 403, host);
      assert.doesNotMatch(body, /peerId/);
    }
  });

  it('allows no web page to read answers: no CORS header', async () => {
    const { headers } = await ask('/status', { headers: { origin: 'http://evil.example' } });
    assert.equal(headers['access-control-allow-origin'], undefined);
  });

  it('is read-only: other methods get 405', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const { status, headers } = await ask('/status', { method });
      assert.equal(status, 405, method);
      assert.equal(headers['allow'], 'GET, HEAD');
    }
    assert.equal((await ask('/status', { method: 'HEAD' })).status, 200);
  });

  it('refuses headers beyond 8 KiB', async () => {
    assert.equal((await ask('/status', { headers: { 'x-fill': 'x'.repeat(9000) } })).status, 431);
    assert.equal((await ask('/status', { headers: { 'x-fill': 'x'.repeat(4000) } })).status, 200);
  });

  it('ends each request that is malformed, rebound, slow or endless, and answers the next', async () => {
    const own = `Host: 127.0.0.1:${server.port}\r\n`;
    const cases: [string, RegExp][] = [
      ['\u0000\u0001 hello\r\n\r\n', /^HTTP\/1.1 400 /],
      [`GET http://[:: HTTP/1.1\r\n${own}Connection: close\r\n\r\n`, /^HTTP\/1.1 400 /],
      ['GET /status HTTP/1.0\r\n\r\n', /^HTTP\/1.1 403 /],
      [`GET /status HTTP/1.1\r\n${own}Host: evil.example\r\n\r\n`, /^HTTP\/1.1 403 /],
      [`CONNECT evil.example:80 HTTP/1.1\r\n${own}\r\n`, /^$/],
      [`POST /status HTTP/1.1\r\n${own}Content-Length: 1000000000\r\n\r\nx`, /^HTTP\/1.1 405 /],
      [`GET /status HTTP/1.1\r\n${own}X-Slow: `, /^HTTP\/1.1 408 /],
    ];
    const answers = cases.map(async ([sent, expected]) => {
      const socket = connect(server.port, '127.0.0.1');
      socket.setTimeout(20_000, () => socket.destroy(new Error(`no end of: ${sent}`)));
      socket.write(sent);
      assert.match(await text(socket), expected, sent);
    });
    await Promise.all(answers);
    assert.equal((await ask('/status')).status, 200);
  });

  it('names a used port and what to do', async () => {
    await assert.rejects(startHttpServer({ port: server.port, peer }), (error) => {
      assert.ok(error instanceof UserError);
      assert.equal(
        error.message,
        `HTTP port ${server.port} on 127.0.0.1 is in use; choose another with --http, or --http 0 for any free one`,
      );
      return true;
    });
  });

  it('stops at once with a client that holds its connection open', { timeout: 4_000 }, async () => {
    const second = await startHttpServer({ port: 0, peer });
    const socket = connect(second.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write('GET /status HTTP/1.1\r\n');
    // The server may reset the connection; either way it ends.
    socket.on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    await second.stop();
    await closed;
  });
});
