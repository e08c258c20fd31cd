/**
 * The local HTTP server: read-only, on 127.0.0.1 only. A web page that a browser has open cannot read
 * it: answers carry no CORS header, and a Host header that is not this server's own name is refused,
 * which stops DNS rebinding.
 */
import { createAdaptorServer, type ServerType } from '@hono/node-server';
import { once } from 'node:events';
import { Server } from 'node:http';
import { Hono } from 'hono';
import { EXIT_USAGE, UserError } from '../errors.js';
import { eventRoutes } from './event-routes.js';
import { metricsRoutes } from './metrics-routes.js';
import { pageRoutes } from './page-routes.js';
import type { PeerView, Routes } from './routes.js';
import { statusRoutes } from './status-routes.js';

const HOSTNAME = '127.0.0.1';
/** Names under which a program on this machine reaches the server. */
const OWN_NAMES = ['127.0.0.1', 'localhost', '[::1]'];

/** Request headers in bytes: a status request needs a few hundred. */
const HEADER_BYTES_MAX = 8 * 1024;
/** Connections at one time: a handful of local programs that poll. */
const CONNECTIONS_MAX = 64;
/** A local client sends its headers, and its whole request, at once. */
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5_000;

export interface HttpServerInit {
  /** 1 to 65535, or 0 for any free port. */
  port: number;
  /** What is shown. */
  peer: PeerView;
}

export interface HttpServer {
  /** E.g. "http://127.0.0.1:40123". */
  readonly url: string;
  readonly port: number;
  /** Closes at once, open connections included. */
  stop(): Promise<void>;
}

/** What the server answers, in files of routes. */
const ROUTES: readonly Routes[] = [pageRoutes, eventRoutes, statusRoutes, metricsRoutes];

/** Resolves when the server accepts connections. Throws UserError when the port cannot be had. */
export async function startHttpServer({ port: wanted, peer }: HttpServerInit): Promise<HttpServer> {
  let ownHosts: ReadonlySet<string> = new Set();
  const closed = new AbortController();
  const app = guarded(() => ownHosts);
  for (const routes of ROUTES) routes(app, peer, closed.signal);
  const server = createAdaptorServer({
    fetch: app.fetch,
    hostname: HOSTNAME,
    serverOptions: {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connectionsCheckingInterval: HEADERS_TIMEOUT_MS,
    },
  });
  server.maxConnections = CONNECTIONS_MAX;
  const port = await listen(server, wanted);
  ownHosts = hostsOf(port);
  return {
    url: `http://${HOSTNAME}:${port}`,
    port,
    stop: async () => {
      const ended = once(server, 'close');
      closed.abort();
      server.close();
      if (server instanceof Server) server.closeAllConnections();
      await ended;
    },
  };
}

/** An app without routes that refuses what no route may see. `ownHosts` are the allowed values of the Host header. */
function guarded(ownHosts: () => ReadonlySet<string>): Hono {
  const app = new Hono();
  app.use(async (c, next) => {
    c.header('Cache-Control', 'no-store');
    c.header('X-Content-Type-Options', 'nosniff');
    if (!ownHosts().has((c.req.header('host') ?? '').toLowerCase())) {
      return c.text('This server answers to its own address only (Host header).\n', 403);
    }
    if (c.req.method !== 'GET' && c.req.method !== 'HEAD') {
      c.header('Allow', 'GET, HEAD');
      return c.text('This server is read-only: use GET.\n', 405);
    }
    await next();
    return undefined;
  });
  app.notFound((c) =>
    c.text('There is only /, /events, /status, /healthz and /metrics here.\n', 404),
  );
  return app;
}

function hostsOf(port: number): ReadonlySet<string> {
  const hosts = OWN_NAMES.map((name) => `${name}:${port}`);
  // Port 80 is left out of the Host header.
  return new Set(port === 80 ? [...hosts, ...OWN_NAMES] : hosts);
}

async function listen(server: ServerType, port: number): Promise<number> {
  try {
    server.listen(port, HOSTNAME);
    await once(server, 'listening');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : null;
    if (code === 'EADDRINUSE') {
      throw new UserError(
        `HTTP port ${port} on ${HOSTNAME} is in use; choose another with --http, or --http 0 for any free one`,
      );
    }
    if (code === 'EACCES') {
      throw new UserError(
        `HTTP port ${port} may not be opened by this user; choose one above 1023 with --http`,
        EXIT_USAGE,
      );
    }
    throw cause;
  }
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : port;
}
