import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { after, before, describe, it } from 'node:test';
import type { HistoryRow } from '../../../node/history.js';
import { EventFeed, SUBSCRIBERS_MAX } from '../../../node/http/event-feed.js';
import type { PeerView } from '../../../node/http/routes.js';
import { startHttpServer, type HttpServer } from '../../../node/http/server.js';
import type { StatusReport } from '../../../node/status.js';
import { sampleStatus } from '../status-sample.js';

let report: StatusReport | null = sampleStatus();
let rows: HistoryRow[] = [];
const peer: PeerView = { status: () => report, history: () => rows, registries: () => [] };

let server: HttpServer;
before(async () => {
  server = await startHttpServer({ port: 0, peer });
});
after(() => server.stop());

const opened: IncomingMessage[] = [];

async function open(headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const [response] = (await once(
    get(`${server.url}/events`, { agent: false, headers, signal: AbortSignal.timeout(20_000) }),
    'response',
  )) as [IncomingMessage];
  response.on('error', () => undefined);
  opened.push(response);
  return response.setEncoding('utf8');
}

/** What comes until `pattern` matches. */
async function read(response: IncomingMessage, pattern: RegExp): Promise<string> {
  let text = '';
  for await (const chunk of response.iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    if (pattern.test(text)) return text;
  }
  assert.fail(`the stream ended without ${String(pattern)}: ${text}`);
}

describe('GET /events', () => {
  it('sends history and status at once, and again what changed', async () => {
    const response = await open();
    assert.equal(response.headers['content-type'], 'text/event-stream');
    const first = await read(response, /event: status\ndata: .*\n\n/);
    assert.match(first, /^retry: \d+\n\nevent: history\ndata: \[\]\n\n/);
    const data = /event: status\ndata: (.*)\n/.exec(first)?.[1] ?? '';
    assert.deepEqual(JSON.parse(data), report);
    const name = 'a line break\nevent: forged\ndata: {}';
    report = { ...sampleStatus(), run: { ...sampleStatus().run, name } };
    rows = [];
    const second = await read(response, /event: status\ndata: .*forged.*\n\n/);
    assert.match(second, /event: history/);
    assert.doesNotMatch(second, /^event: forged/m);
    report = sampleStatus();
    response.destroy();
  });

  it('says while the peer starts that it is there', async () => {
    report = null;
    const response = await open();
    await read(response, /event: starting\ndata: \{\}\n\n/);
    report = sampleStatus();
    response.destroy();
  });

  it('has room for a few pages, and again when one closes', async () => {
    const pages = [];
    for (let i = 0; i < SUBSCRIBERS_MAX; i++) pages.push(await open());
    const refused = await open();
    assert.equal(refused.statusCode, 503);
    assert.equal(refused.headers['retry-after'], '5');
    for (const page of pages) page.destroy();
    // The server notices within moments.
    for (const endMs = performance.now() + 10_000; ;) {
      const next = await open();
      next.destroy();
      if (next.statusCode === 200) break;
      assert.ok(performance.now() < endMs, 'no room after all pages were closed');
    }
  });

  it('gives no room to the pages of other sites', async () => {
    for (const site of ['cross-site', 'same-site']) {
      assert.equal((await open({ 'sec-fetch-site': site })).statusCode, 403);
    }
    const own = await open({ 'sec-fetch-site': 'same-origin' });
    assert.equal(own.statusCode, 200);
    own.destroy();
  });

  it('answers HEAD without a stream that would never end', async () => {
    const outgoing = get(`${server.url}/events`, { method: 'HEAD', agent: false });
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    assert.equal(response.statusCode, 200);
    response.resume();
    await once(response, 'end');
  });
});

describe('EventFeed', () => {
  it('keeps a bounded queue for a page that reads nothing, and lets it go', (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    const big = { ...sampleStatus(), attention: ['x'.repeat(100_000)] };
    const feed = new EventFeed({ ...peer, status: () => big }, new AbortController().signal);
    assert.ok(feed.subscribe());
    assert.equal(feed.size, 1);
    for (let i = 0; i < 100; i++) context.mock.timers.tick(1_000);
    assert.equal(feed.size, 0);
  });

  it('asks the peer for nothing while nobody watches', async (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    let asked = 0;
    const status = (): null => {
      asked++;
      return null;
    };
    const feed = new EventFeed({ ...peer, status }, new AbortController().signal);
    const stream = feed.subscribe();
    context.mock.timers.tick(3_000);
    assert.equal(asked, 4);
    await stream?.cancel();
    context.mock.timers.tick(60_000);
    assert.equal(asked, 4);
  });

  it('ends its streams with the server, and takes no more', async () => {
    const closed = new AbortController();
    const feed = new EventFeed(peer, closed.signal);
    const reader = feed.subscribe()?.getReader();
    assert.ok(reader);
    closed.abort();
    assert.equal(feed.subscribe(), null);
    for (;;) if ((await reader.read()).done) break;
  });
});
