import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { UserError } from '../../../node/errors.js';
import {
  PromptTooLongError,
  type Engine,
  type WriteRequest,
  type Written,
} from '../../../node/http/openai/engine.js';
import type { LoopbackServer } from '../../../node/http/loopback.js';
import {
  REQUEST_BYTES_MAX,
  startOpenAiServer,
  WAITING_MAX,
} from '../../../node/http/openai/server.js';
import type { Logger } from '../../../node/interfaces.js';

const logged: string[] = [];
const log = (fields: unknown, message: unknown): void =>
  void logged.push(JSON.stringify([fields, message]));
const logger: Logger = { debug: log, info: log, warn: log, error: log };

/** Writes three words, or waits until it is let go or stopped. */
class WaitingEngine implements Engine {
  readonly models = ['base', 'base+swarm'];
  readonly requests: WriteRequest[] = [];
  stopped = 0;
  gate: { promise: Promise<void>; open: () => void } | null = null;

  close(): void {
    let open = (): void => undefined;
    const promise = new Promise<void>((resolve) => (open = resolve));
    this.gate = { promise, open };
  }

  fingerprint(model: string): string {
    return `${model} at epoch 3`;
  }

  check({ prompt }: WriteRequest): void {
    if ('text' in prompt && prompt.text === 'long') throw new PromptTooLongError(99, 50);
    if ('text' in prompt && prompt.text === 'odd') throw new UserError('no place for this');
  }

  async write(
    asked: WriteRequest,
    onText: (piece: string) => void,
    signal: AbortSignal,
  ): Promise<Written> {
    this.requests.push(asked);
    if ('text' in asked.prompt && asked.prompt.text === 'broken') throw new TypeError('PRIVATE');
    onText('one ');
    try {
      await Promise.race([
        this.gate?.promise,
        ...(this.gate === null ? [] : [once(signal, 'abort')]),
      ]);
      signal.throwIfAborted();
    } catch (error) {
      this.stopped += 1;
      throw error;
    }
    onText('two ');
    onText('three');
    return { promptTokens: 5, tokens: 3, finish: 'stop' };
  }
}

const KEY = 'a-key-that-nobody-guesses';
const engine = new WaitingEngine();
const ending = new AbortController();
let server: LoopbackServer;
let locked: LoopbackServer;

before(async () => {
  const init = { port: 0, engine, logger, signal: ending.signal };
  server = await startOpenAiServer({ ...init, apiKey: null });
  locked = await startOpenAiServer({ ...init, apiKey: KEY });
});
after(async () => {
  ending.abort();
  await server.stop();
  await locked.stop();
});

interface Reply {
  status: number;
  body: string;
  error: { message: string; type: string; param: string | null; code: string | null };
}

const MESSAGES = [{ role: 'user', content: 'PRIVATE question' }];
const CHAT = { model: 'base+swarm', messages: MESSAGES };

async function ask(
  path: string,
  body: unknown,
  {
    to = server,
    method = 'POST',
    headers = {},
    signal = AbortSignal.timeout(10_000),
  }: {
    to?: LoopbackServer;
    method?: string;
    headers?: Record<string, string>;
    signal?: AbortSignal;
  } = {},
): Promise<Reply> {
  const outgoing = request({
    ...{ host: '127.0.0.1', port: to.port, path, method, agent: false, signal },
    headers: { 'content-type': 'application/json', ...headers },
  });
  outgoing.end(body === null ? undefined : typeof body === 'string' ? body : JSON.stringify(body));
  const [response] = (await once(outgoing, 'response')) as [import('node:http').IncomingMessage];
  const answer = await text(response);
  const parsed = answer.startsWith('{') ? (JSON.parse(answer) as Partial<Reply>) : {};
  const none = { message: '', type: '', param: null, code: null };
  return { status: response.statusCode ?? 0, body: answer, error: parsed.error ?? none };
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < endMs, condition.toString());
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

describe('the OpenAI-compatible server', () => {
  it('answers a conversation, whole', async () => {
    const { status, body } = await ask('/v1/chat/completions', CHAT);
    assert.equal(status, 200);
    const { id, created, ...rest } = JSON.parse(body) as Record<string, unknown>;
    assert.match(String(id), /^chatcmpl-/);
    assert.ok(Number(created) > 1.7e9);
    assert.deepEqual(rest, {
      object: 'chat.completion',
      model: 'base+swarm',
      system_fingerprint: 'base+swarm at epoch 3',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'one two three', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: 5, completion_tokens: 3, total_tokens: 8 },
    });
  });

  it('streams the pieces as they are written, and ends with [DONE]', async () => {
    const asked = { ...CHAT, stream: true, stream_options: { include_usage: true } };
    const { body } = await ask('/v1/chat/completions', asked);
    const events = body.split('\n\n').filter((line) => line !== '');
    assert.equal(events.pop(), 'data: [DONE]');
    const chunks = events.map(
      (event) =>
        JSON.parse(event.replace('data: ', '')) as {
          choices: { delta: { content?: string }; finish_reason: string | null }[];
          usage?: { total_tokens: number };
        },
    );
    const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('');
    assert.equal(text, 'one two three');
    assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'stop');
    assert.equal(chunks.at(-1)?.usage?.total_tokens, 8);
  });

  it('goes on with a text', async () => {
    const { body } = await ask('/v1/completions', { model: 'base', prompt: 'count: ' });
    const { choices } = JSON.parse(body) as { choices: { text: string }[] };
    assert.equal(choices[0]?.text, 'one two three');
    assert.deepEqual(engine.requests.at(-1)?.prompt, { text: 'count: ' });
  });

  it('lists its models, and finds one by its id', async () => {
    const { body } = await ask('/v1/models', null, { method: 'GET' });
    const { data } = JSON.parse(body) as { data: { id: string }[] };
    assert.deepEqual(
      data.map(({ id }) => id),
      ['base', 'base+swarm'],
    );
    assert.equal((await ask('/v1/models/base%2Bswarm', null, { method: 'GET' })).status, 200);
    assert.equal((await ask('/v1/models/other', null, { method: 'GET' })).status, 404);
  });

  it('refuses web pages: another Host, any Origin, a body that is not said to be JSON', async () => {
    const path = '/v1/chat/completions';
    const before = engine.requests.length;
    assert.equal((await ask(path, CHAT, { headers: { host: 'evil.example' } })).status, 403);
    const page = await ask(path, CHAT, { headers: { origin: server.url } });
    assert.match(page.error.message, /not for web pages/);
    assert.equal(page.status, 403);
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'text/json']) {
      assert.equal((await ask(path, CHAT, { headers: { 'content-type': type } })).status, 415);
    }
    const models = { method: 'GET', headers: { origin: 'https://evil.example' } };
    assert.equal((await ask('/v1/models', null, models)).status, 403);
    assert.equal(engine.requests.length, before, 'nothing was written');
  });

  it('lets in only who brings the key, where there is one', async () => {
    for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: KEY }]) {
      const { status, error } = await ask('/v1/chat/completions', CHAT, { to: locked, headers });
      assert.deepEqual([status, error.code], [401, 'invalid_api_key']);
      assert.ok(!error.message.includes(KEY));
    }
    const headers = { authorization: `Bearer ${KEY}` };
    assert.equal((await ask('/v1/chat/completions', CHAT, { to: locked, headers })).status, 200);
  });

  it('says in the words of the API what is wrong', async () => {
    const cases: [
      path: string,
      body: unknown,
      status: number,
      code: string | null,
      words: RegExp,
    ][] = [
      [
        '/v1/chat/completions',
        { ...CHAT, model: 'gpt' },
        404,
        'model_not_found',
        /base, base\+swarm/,
      ],
      ['/v1/chat/completions', '{', 400, null, /not valid JSON/],
      [
        '/v1/completions',
        { model: 'base', prompt: 'long' },
        400,
        'context_length_exceeded',
        /99 tokens/,
      ],
      ['/v1/completions', { model: 'base', prompt: 'odd' }, 400, null, /no place/],
      ['/v1/completions', { model: 'base', prompt: 'broken' }, 500, null, /The server failed/],
      ['/v1/embeddings', {}, 404, null, /There is only/],
      ['/v1/completions', ' '.repeat(REQUEST_BYTES_MAX + 1), 413, null, /more than 1048576 bytes/],
    ];
    for (const [path, body, status, code, words] of cases) {
      const reply = await ask(path, body);
      assert.deepEqual([reply.status, reply.error.code], [status, code], reply.body);
      assert.match(reply.error.message, words);
    }
    assert.equal((await ask('/v1/completions', null, { method: 'GET' })).status, 405);
  });

  it('answers one at a time, and refuses more than may wait', async () => {
    engine.close();
    const before = engine.requests.length;
    const first = ask('/v1/chat/completions', CHAT);
    await until(() => engine.requests.length > before);
    const refused: Reply[] = [];
    const replies = Array.from({ length: WAITING_MAX + 3 }, async () => {
      const reply = await ask('/v1/chat/completions', CHAT);
      if (reply.status === 429) refused.push(reply);
      return reply;
    });
    await until(() => refused.length === 3);
    const { code, type } = refused[0]!.error;
    assert.deepEqual([code, type], ['rate_limit_exceeded', 'rate_limit_error']);
    assert.equal(engine.requests.length, before + 1, 'the others wait');
    engine.gate?.open();
    const all = [await first, ...(await Promise.all(replies))];
    const count = (status: number): number => all.filter((reply) => reply.status === status).length;
    assert.deepEqual([count(200), count(429)], [1 + WAITING_MAX, 3]);
    engine.gate = null;
  });

  for (const stream of [false, true]) {
    it(`stops writing when the client goes away, ${stream ? 'streaming' : 'whole'}`, async () => {
      engine.close();
      const [requests, stopped] = [engine.requests.length, engine.stopped];
      const client = new AbortController();
      const asked = { ...CHAT, stream };
      const gone = ask('/v1/chat/completions', asked, { signal: client.signal });
      await until(() => engine.requests.length > requests);
      client.abort();
      await assert.rejects(gone);
      await until(() => engine.stopped > stopped);
      engine.gate = null;
      assert.equal((await ask('/v1/chat/completions', CHAT)).status, 200, 'the next has its turn');
    });
  }

  it('logs nothing of what was asked or answered', () => {
    assert.ok(logged.length > 0);
    assert.doesNotMatch(logged.join(), /PRIVATE|one two/);
  });
});
