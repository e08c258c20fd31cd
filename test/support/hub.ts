/** A hub of models on loopback, for tests: the HTTP of the real one, large files from a second port, and faults on demand. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

export interface HubRepository {
  commit: string;
  /** Branches and tags. */
  refs: readonly string[];
  files: ReadonlyMap<string, Buffer>;
  /** Asks for the token, as a private (401 and 404) or a gated (401 and 403) model does. */
  closed?: 'private' | 'gated';
}

/** What goes wrong; changed while the server runs. */
export interface HubFaults {
  /** Each transfer of a large file breaks off after so many bytes; so often. */
  cutAfter?: { bytes: number; times: number };
  /** Large files have one other byte. */
  isCorrupt?: boolean;
  /** Sends so many bytes of a large file, then nothing more. */
  stallAfter?: number;
  /** Ends the connection instead. */
  endsEarly?: boolean;
  /** Large files come whole, whatever was asked for. */
  ignoresRange?: boolean;
  /** The API answers so. */
  status?: number;
  /** The API's listing is this instead. */
  listing?: unknown;
  /** Large files are to be fetched from here. */
  redirect?: string;
}

export interface HubRequest {
  /** Whether it came to the second port. */
  isCdn: boolean;
  method: string;
  path: string;
  range: string | null;
  authorization: string | null;
}

export const HUB_COMMIT = 'c0ffee0123456789c0ffee0123456789c0ffee01';

/** A repository with the files of `dir`, without its sub-directories. */
export function repositoryOf(dir: string, commit = HUB_COMMIT): HubRepository {
  const names = readdirSync(dir).filter((name) => statSync(join(dir, name)).isFile());
  const files = new Map(names.map((name) => [name, readFileSync(join(dir, name))]));
  return { commit, refs: ['main'], files };
}

export class HubServer {
  readonly repositories = new Map<string, HubRepository>();
  readonly requests: HubRequest[] = [];
  faults: HubFaults = {};
  /** What closed repositories ask for. */
  token = 'hf_theRightToken';
  readonly #hub: Server;
  readonly #cdn: Server;

  private constructor() {
    this.#hub = createServer((request, response) => this.#answer(request, response));
    this.#cdn = createServer((request, response) => this.#answerCdn(request, response));
  }

  static async start(): Promise<HubServer> {
    const server = new HubServer();
    await listen(server.#hub);
    await listen(server.#cdn);
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  get cdnUrl(): string {
    return `http://127.0.0.1:${(this.#cdn.address() as AddressInfo).port}`;
  }

  /** Bytes of requests for large files that began in the midst. */
  get ranges(): string[] {
    return this.requests.flatMap(({ isCdn, range }) => (isCdn && range !== null ? [range] : []));
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  #note(request: IncomingMessage, isCdn: boolean): URL {
    const { method = '', headers } = request;
    const url = new URL(request.url ?? '/', 'http://hub');
    const authorization = headers.authorization ?? null;
    const range = headers.range ?? null;
    this.requests.push({ isCdn, method, path: url.pathname, range, authorization });
    return url;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const { pathname } = this.#note(request, false);
    const parts = pathname.split('/').slice(1).map(decodeURIComponent);
    const isApi = parts[0] === 'api' && parts[1] === 'models';
    const rest = isApi ? parts.slice(2) : parts;
    const verb = rest.findIndex((part) => /^(revision|tree|resolve)$/.test(part));
    const name = rest.slice(0, verb).join('/');
    const [what, revision = '', ...path] = rest.slice(verb);
    const repository = this.repositories.get(name);
    if (isApi && this.faults.status !== undefined) {
      end(response, this.faults.status, {}, 'out of order');
      return;
    }
    if (repository === undefined) {
      end(response, 401, { 'x-error-code': 'RepoNotFound' });
      return;
    }
    const refused = this.#refusal(repository, request);
    const listsGated = isApi && repository.closed === 'gated';
    if (refused !== null && !listsGated) {
      end(response, ...refused);
      return;
    }
    const { commit, refs } = repository;
    if (revision !== commit && !refs.includes(revision)) {
      end(response, 404, { 'x-error-code': 'RevisionNotFound' });
      return;
    }
    if (what === 'resolve') {
      this.#resolve(repository, path.join('/'), request, response);
      return;
    }
    const body =
      what === 'tree' ? (this.faults.listing ?? tree(repository)) : info(name, repository);
    end(response, 200, { 'content-type': 'application/json' }, JSON.stringify(body));
  }

  #refusal(
    { closed }: HubRepository,
    request: IncomingMessage,
  ): [number, Record<string, string>] | null {
    const { authorization } = request.headers;
    if (closed === undefined || authorization === `Bearer ${this.token}`) return null;
    const code = closed === 'gated' ? 'GatedRepo' : 'RepoNotFound';
    if (authorization === undefined) return [401, { 'x-error-code': code }];
    return [closed === 'gated' ? 403 : 404, { 'x-error-code': code }];
  }

  #resolve(
    { commit, files }: HubRepository,
    name: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): void {
    const bytes = files.get(name);
    if (bytes === undefined) {
      end(response, 404, { 'x-error-code': 'EntryNotFound' });
      return;
    }
    const headers = { 'x-repo-commit': commit, 'accept-ranges': 'bytes' };
    if (!isLarge(name)) {
      send(response, request, bytes, { ...headers, etag: `"${gitHash(bytes)}"` });
      return;
    }
    const hash = sha256(bytes);
    end(response, 302, {
      ...headers,
      'x-linked-size': String(bytes.length),
      'x-linked-etag': `"${hash}"`,
      location: `${this.faults.redirect ?? this.cdnUrl}/${hash}`,
    });
  }

  #answerCdn(request: IncomingMessage, response: ServerResponse): void {
    const { pathname } = this.#note(request, true);
    const all = [...this.repositories.values()].flatMap(({ files }) => [...files.values()]);
    const found = all.find((bytes) => sha256(bytes) === pathname.slice(1));
    if (found === undefined) {
      end(response, 404, {});
      return;
    }
    const { cutAfter, isCorrupt = false, ignoresRange = false } = this.faults;
    const { stallAfter, endsEarly = false } = this.faults;
    const bytes = isCorrupt ? corrupted(found) : found;
    if (ignoresRange) delete request.headers.range;
    if (cutAfter !== undefined && cutAfter.times > 0) {
      cutAfter.times -= 1;
      send(response, request, bytes, {}, cutAfter.bytes, true);
      return;
    }
    send(response, request, bytes, {}, stallAfter, endsEarly);
  }
}

/** Sends `bytes`, or the range that is asked for; only `most` bytes of it, then it ends or stands still. */
function send(
  response: ServerResponse,
  request: IncomingMessage,
  bytes: Buffer,
  headers: Record<string, string>,
  most = Infinity,
  ends = true,
): void {
  const [, from = '0', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
  const start = Number(from);
  const stop = to === '' ? bytes.length : Number(to) + 1;
  const isRange = request.headers.range !== undefined;
  const range = isRange ? { 'content-range': `bytes ${start}-${stop - 1}/${bytes.length}` } : {};
  response.writeHead(isRange ? 206 : 200, {
    ...{ ...headers, ...range },
    'content-length': String(stop - start),
  });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  response.flushHeaders();
  const part = bytes.subarray(start, Math.min(stop, start + most));
  if (start + part.length === stop) response.end(part);
  else response.write(part, () => ends && response.destroy());
}

function end(
  response: ServerResponse,
  status: number,
  headers: Record<string, string>,
  body = '',
): void {
  response.writeHead(status, { ...headers, 'content-length': String(Buffer.byteLength(body)) });
  response.end(response.req.method === 'HEAD' ? undefined : body);
}

function info(name: string, { commit, files, closed }: HubRepository): unknown {
  return {
    _id: '0123456789abcdef01234567',
    id: name,
    sha: commit,
    private: closed === 'private',
    gated: closed === 'gated' ? 'manual' : false,
    downloads: 1,
    likes: 1,
    lastModified: '2026-01-01T00:00:00.000Z',
    siblings: [...files.keys()].map((rfilename) => ({ rfilename })),
  };
}

/** As the hub lists files: by path, those in LFS with the size of the pointer's target. */
export function tree({ files }: HubRepository): Record<string, unknown>[] {
  return [...files].map(([path, bytes]) => ({
    type: 'file',
    path,
    oid: gitHash(bytes),
    size: bytes.length,
    ...(isLarge(path)
      ? {
          lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 },
          xetHash: sha256(bytes),
        }
      : {}),
  }));
}

function isLarge(name: string): boolean {
  return /\.(safetensors|bin)$/.test(name);
}

function corrupted(bytes: Buffer): Buffer {
  const other = Buffer.from(bytes);
  other[other.length >> 1] = (other[other.length >> 1] ?? 0) ^ 1;
  return other;
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function gitHash(bytes: Buffer): string {
  return createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
}
