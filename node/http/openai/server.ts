/**
 * A part of the OpenAI API on 127.0.0.1, for programs of this machine: chat completions, completions, models. A web
 * page cannot use it: beside what node/http/loopback.ts refuses, a request with an Origin is refused, and a POST must
 * say that it is JSON, which a page may not do without asking first.
 */
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto';
import { Hono, type Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { streamSSE } from 'hono/streaming';
import { UserError } from '../../errors.js';
import type { Logger } from '../../interfaces.js';
import { ownHostOnly, serveLoopback, type LoopbackServer } from '../loopback.js';
import { chatAnswer, completionAnswer, type AnswerFormat } from './answer.js';
import { PromptTooLongError, type Engine, type Written } from './engine.js';
import { ApiError } from './error.js';
import { Queue } from './queue.js';
import { readChatRequest, readCompletionRequest, type ApiRequest } from './request.js';

/** Bytes of a request: a context of 100,000 tokens has half of it. */
export const REQUEST_BYTES_MAX = 1024 * 1024;
/** Requests that wait for the one that is answered: more would wait for minutes. */
export const WAITING_MAX = 8;

export interface OpenAiServerInit {
  /** 1 to 65535, or 0 for any free port. */
  port: number;
  engine: Engine;
  /** Null lets every program of this machine in. */
  apiKey: string | null;
  logger: Logger;
  /** Aborts all that is being written. */
  signal: AbortSignal;
}

/** Resolves when the server accepts connections. Throws UserError when the port cannot be had. */
export async function startOpenAiServer(init: OpenAiServerInit): Promise<LoopbackServer> {
  return serveLoopback({ port: init.port, flag: '--port' }, createApp(init));
}

function createApp(init: OpenAiServerInit): Hono {
  const { engine } = init;
  const app = new Hono();
  const queue = new Queue(WAITING_MAX);
  const created = Math.floor(Date.now() / 1000);
  const model = (id: string): object => ({ id, object: 'model', created, owned_by: 'murmurate' });
  app.onError((error, c) => answerError(error, c, init.logger));
  app.notFound((c) => {
    const error = new ApiError(
      404,
      'There is only /v1/chat/completions, /v1/completions and /v1/models here.',
    );
    return c.json(error.body, 404);
  });
  app.use(ownHostOnly());
  app.use(async (c, next) => {
    checkSender(c, init.apiKey);
    await next();
  });
  app.get('/v1/models', (c) => c.json({ object: 'list', data: engine.models.map(model) }));
  app.get('/v1/models/:id', (c) => {
    const id = c.req.param('id');
    checkModel(engine, id);
    return c.json(model(id));
  });
  const limit = bodyLimit({
    maxSize: REQUEST_BYTES_MAX,
    onError: () => {
      throw new ApiError(413, `The body has more than ${REQUEST_BYTES_MAX} bytes.`);
    },
  });
  const post = (path: string, read: (body: string) => ApiRequest, format: AnswerFormat): void => {
    app.post(path, limit, async (c) => {
      const request = read(await c.req.text());
      checkModel(engine, request.write.model);
      engine.check(request.write);
      if (queue.isFull) {
        c.header('Retry-After', '1');
        throw new ApiError(
          429,
          `${WAITING_MAX} requests wait already: try again later.`,
          null,
          'rate_limit_exceeded',
        );
      }
      return new Answer(c, request, format, init, queue).send();
    });
    app.all(path, (c) => {
      c.header('Allow', 'POST');
      throw new ApiError(405, 'Use POST here.');
    });
  };
  post('/v1/chat/completions', readChatRequest, chatAnswer);
  post('/v1/completions', readCompletionRequest, completionAnswer);
  return app;
}

function checkModel(engine: Engine, id: string): void {
  if (engine.models.includes(id)) return;
  throw new ApiError(
    404,
    `There is no such model here; there is: ${engine.models.join(', ')}.`,
    'model',
    'model_not_found',
  );
}

/** Throws ApiError for web pages and for whoever lacks the key. */
function checkSender(c: Context, apiKey: string | null): void {
  if (c.req.header('origin') !== undefined) {
    throw new ApiError(
      403,
      'This server is for programs of this machine, not for web pages (Origin header).',
    );
  }
  const type = c.req.header('content-type')?.split(';')[0]?.trim().toLowerCase();
  if (c.req.method === 'POST' && type !== 'application/json') {
    throw new ApiError(415, 'The body must be application/json (Content-Type header).');
  }
  if (apiKey === null) return;
  const given = /^Bearer +(\S+)$/i.exec(c.req.header('authorization') ?? '')?.[1] ?? '';
  // Hashes have one length, which the comparison in constant time needs.
  const hash = (key: string): Buffer => createHash('sha256').update(key).digest();
  if (timingSafeEqual(hash(given), hash(apiKey))) return;
  throw new ApiError(
    401,
    'The API key is missing or wrong: send that of --api-key-file as a Bearer token.',
    null,
    'invalid_api_key',
  );
}

function answerError(error: Error, c: Context, logger: Logger): Response {
  const known = toApiError(error);
  // A client that went away is no fault.
  if (known.status === 500 && error.name !== 'AbortError') {
    logger.error({ reason: error.name }, 'a request failed');
  }
  return c.json(known.body, known.status);
}

function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof PromptTooLongError) {
    return new ApiError(400, error.message, 'messages', 'context_length_exceeded');
  }
  if (error instanceof UserError) return new ApiError(400, error.message);
  return new ApiError(500, 'The server failed; its log says why.');
}

/** One answer, whole or as it is written. */
class Answer {
  private readonly id: string;
  private readonly created = Math.floor(Date.now() / 1000);

  constructor(
    private readonly c: Context,
    private readonly request: ApiRequest,
    private readonly format: AnswerFormat,
    private readonly init: OpenAiServerInit,
    private readonly queue: Queue,
  ) {
    this.id = `${format.idPrefix}-${randomUUID()}`;
  }

  send(): Promise<Response> | Response {
    return this.request.stream ? this.stream() : this.whole();
  }

  private async whole(): Promise<Response> {
    let text = '';
    const { raw } = this.c.req;
    const written = await this.write((piece) => void (text += piece), raw.signal);
    return this.c.json({
      ...this.head(this.format.object),
      choices: [this.format.choice(text, written.finish)],
      usage: usageOf(written),
    });
  }

  private stream(): Response {
    const gone = new AbortController();
    return streamSSE(this.c, async (stream) => {
      stream.onAbort(() => gone.abort(new DOMException('the client is gone', 'AbortError')));
      const send = (value: object): Promise<void> =>
        stream.writeSSE({ data: JSON.stringify(value) });
      const chunk = (choices: readonly object[], more: object = {}): Promise<void> =>
        send({ ...this.head(this.format.chunkObject), choices, ...more });
      try {
        // In order; what a slow client has not read yet is at most one answer.
        let sent = Promise.resolve();
        const onText = (text: string): void => {
          sent = sent.then(() => chunk([this.format.delta(text, null)]));
        };
        const first = this.format.firstDelta;
        if (first !== null) await chunk([first]);
        const written = await this.write(onText, gone.signal);
        await sent;
        await chunk([this.format.delta('', written.finish)]);
        if (this.request.includeUsage) await chunk([], { usage: usageOf(written) });
        await stream.writeSSE({ data: '[DONE]' });
      } catch (error) {
        if (gone.signal.aborted) return;
        await send(toApiError(error).body);
      }
    });
  }

  /** Waits for its turn. Rejects when the client is gone or the server ends. */
  private async write(onText: (piece: string) => void, gone: AbortSignal): Promise<Written> {
    const { engine, logger, signal } = this.init;
    const stop = AbortSignal.any([gone, signal]);
    const startMs = performance.now();
    const written = await this.queue.run(
      () => engine.write(this.request.write, onText, stop),
      stop,
    );
    logger.info({ ...written, ms: Math.round(performance.now() - startMs) }, 'answered');
    return written;
  }

  private head(object: string): object {
    const { model } = this.request.write;
    const fingerprint = this.init.engine.fingerprint(model);
    return { id: this.id, object, created: this.created, model, system_fingerprint: fingerprint };
  }
}

function usageOf({ promptTokens, tokens }: Written): object {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: tokens,
    total_tokens: promptTokens + tokens,
  };
}
