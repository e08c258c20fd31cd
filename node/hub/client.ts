/**
 * HTTP to a hub. Its answers are foreign: bounded in bytes, time and number. The token goes to the hub itself
 * and to nobody whom it sends us on to.
 */
import { VERSION } from '../version.js';

/** Bytes of one answer of the hub's API: a listing of 10,000 files has about 3 MB. */
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;
/** Answers of the API to one command: one names the commit, each of the others lists 1,000 files or more. */
const ANSWERS_MAX = 16;
/** Redirects in a row. */
const HOPS_MAX = 5;
/** How long a server may take to begin its answer, and be silent in the midst of it, in ms. */
export const SILENT_MS_MAX = 30_000;

/** The hub answered, but not with what was asked for. */
export class HubRefusal extends Error {
  override readonly name = 'HubRefusal';

  constructor(
    readonly status: number,
    /** The hub's own word, e.g. "GatedRepo"; '' for none. */
    readonly code: string,
  ) {
    super(`status ${status}`);
  }
}

/** Nobody answered, or something in between is out of order: the same may work later. */
export class HubUnreachableError extends Error {
  override readonly name = 'HubUnreachableError';
}

/** An answer that no hub gives. */
export class HubAnswerError extends Error {
  override readonly name = 'HubAnswerError';
}

export interface HubClientInit {
  /** Without a slash at its end. */
  url: string;
  token: string | null;
  signal: AbortSignal;
  silentMsMax?: number;
}

export class HubClient {
  readonly url: string;
  readonly signal: AbortSignal;
  readonly silentMsMax: number;
  readonly #origin: string;
  readonly #token: string | null;
  #answers = 0;

  constructor({ url, token, signal, silentMsMax = SILENT_MS_MAX }: HubClientInit) {
    this.url = url;
    this.signal = signal;
    this.silentMsMax = silentMsMax;
    this.#origin = new URL(url).origin;
    this.#token = token;
  }

  /**
   * GET, after redirects; the body has yet to be read, within silentMsMax a piece. Throws HubRefusal,
   * HubUnreachableError, HubAnswerError, the signal's reason.
   */
  async get(url: string, headers: Readonly<Record<string, string>>): Promise<Response> {
    let at = new URL(url);
    for (let hop = 0; hop <= HOPS_MAX; hop++) {
      const response = await this.#request(at, headers);
      if (response.status < 300 || response.status >= 400) return checked(response);
      await response.body?.cancel();
      at = this.#next(at, response.headers.get('location'));
    }
    throw new HubAnswerError(`more than ${HOPS_MAX} redirects`);
  }

  /** What the library calls instead of fetch(). */
  readonly fetchAnswer: typeof fetch = async (input) => {
    const url = input instanceof Request ? input.url : String(input);
    // A listing says itself where it goes on.
    if (new URL(url).origin !== this.#origin) throw new HubAnswerError('a page on another host');
    if (++this.#answers > ANSWERS_MAX) throw new HubAnswerError(`more than ${ANSWERS_MAX} pages`);
    const response = await this.get(url, { accept: 'application/json' });
    const { status, headers } = response;
    return new Response(await this.#readAll(response), { status, headers });
  };

  async #request(url: URL, headers: Readonly<Record<string, string>>): Promise<Response> {
    const isHub = url.origin === this.#origin;
    const credentials = isHub && this.#token !== null ? `Bearer ${this.#token}` : null;
    const late = new AbortController();
    const timer = setTimeout(() => late.abort(), this.silentMsMax);
    try {
      return await fetch(url, {
        redirect: 'manual',
        signal: AbortSignal.any([this.signal, late.signal]),
        headers: {
          'user-agent': `murmurate/${VERSION}`,
          // Hashes are of the bytes as they are.
          'accept-encoding': 'identity',
          ...headers,
          ...(credentials === null ? {} : { authorization: credentials }),
        },
      });
    } catch (error) {
      this.signal.throwIfAborted();
      if (late.signal.aborted) throw this.silence();
      throw unreachable(error);
    } finally {
      clearTimeout(timer);
    }
  }

  #next(from: URL, location: string | null): URL {
    const isUrl = location !== null && URL.canParse(location, from.href);
    const to = isUrl ? new URL(location, from) : null;
    if (to === null || !/^https?:$/.test(to.protocol))
      throw new HubAnswerError('a redirect to nowhere');
    if (from.protocol === 'https:' && to.protocol === 'http:') {
      throw new HubAnswerError('a redirect to an unencrypted address');
    }
    return to;
  }

  async #readAll(response: Response): Promise<Uint8Array<ArrayBuffer>> {
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const part of this.bodyOf(response)) {
      size += part.length;
      if (size > ANSWER_BYTES_MAX) throw new HubAnswerError(`more than ${ANSWER_BYTES_MAX} bytes`);
      parts.push(part);
    }
    return Uint8Array.from(Buffer.concat(parts, size));
  }

  /** The body piece by piece. Throws HubUnreachableError when it breaks off or stands still. */
  async *bodyOf(response: Response): AsyncGenerator<Uint8Array> {
    if (response.body === null) return;
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    try {
      for (;;) {
        const piece = await this.#readWithin(reader);
        if (piece.done) return;
        yield piece.value;
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  async #readWithin<T>(reader: { read: () => Promise<T> }): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.silence()), this.silentMsMax);
    });
    try {
      return await Promise.race([reader.read(), late]);
    } catch (error) {
      this.signal.throwIfAborted();
      throw unreachable(error);
    } finally {
      clearTimeout(timer);
    }
  }

  silence(): HubUnreachableError {
    return new HubUnreachableError(`no answer for ${this.silentMsMax / 1000} s`);
  }
}

async function checked(response: Response): Promise<Response> {
  const { status, headers } = response;
  if (response.ok) return response;
  await response.body?.cancel();
  if (status === 408 || status === 429 || status >= 500) {
    throw new HubUnreachableError(`it answers with status ${status}`);
  }
  throw new HubRefusal(status, headers.get('x-error-code') ?? '');
}

/** fetch() hides the system's word, like ECONNREFUSED, in the cause. */
function unreachable(error: unknown): HubUnreachableError {
  if (error instanceof HubUnreachableError) return error;
  const causes = [error instanceof Error ? error.cause : undefined, error];
  const codes = causes.map((cause) =>
    cause instanceof Error && 'code' in cause ? String(cause.code) : '',
  );
  const code = codes.find((word) => /^[A-Z][A-Z0-9_]{1,40}$/.test(word));
  return new HubUnreachableError(code ?? 'the connection broke', { cause: error });
}
