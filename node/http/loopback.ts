/**
 * A server for programs of this machine alone. A web page that a browser has open cannot read it: it listens on
 * 127.0.0.1, answers carry no CORS header, and a Host header that is not its own name is refused, which stops DNS
 * rebinding.
 */
import { createAdaptorServer, type ServerType } from '@hono/node-server';
import { once } from 'node:events';
import { Server } from 'node:http';
import type { Hono, MiddlewareHandler } from 'hono';
import { EXIT_USAGE, UserError } from '../errors.js';

const HOSTNAME = '127.0.0.1';
/** Names under which a program on this machine reaches the server. */
const OWN_NAMES = ['127.0.0.1', 'localhost', '[::1]'];

/** Request headers in bytes: a local program needs a few hundred. */
const HEADER_BYTES_MAX = 8 * 1024;
/** Connections at one time: a handful of local programs. */
const CONNECTIONS_MAX = 64;
/** A local client sends its headers, and its whole request, at once. */
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_MS = 5_000;

export interface LoopbackServer {
  /** E.g. "http://127.0.0.1:40123". */
  readonly url: string;
  readonly port: number;
  /** Closes at once, open connections included. */
  stop(): Promise<void>;
}

/**
 * Resolves when the server accepts connections. `port`: 1 to 65535, or 0 for any free one; `flag` names its
 * option in errors. `appFor` makes the routes; it is given the allowed values of the Host header, for
 * `ownHostOnly`. Throws UserError when the port cannot be had.
 */
export async function serveLoopback(
  { port: wanted, flag }: { port: number; flag: string },
  appFor: (hosts: () => ReadonlySet<string>) => Hono,
): Promise<LoopbackServer> {
  let hosts: ReadonlySet<string> = new Set();
  const server = createAdaptorServer({
    fetch: appFor(() => hosts).fetch,
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
  const port = await listen(server, wanted, flag);
  hosts = hostsOf(port);
  return {
    url: `http://${HOSTNAME}:${port}`,
    port,
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      if (server instanceof Server) server.closeAllConnections();
      await closed;
    },
  };
}

/** Refuses other hosts with 403, and forbids browsers to keep or to guess at an answer. */
export function ownHostOnly(hosts: () => ReadonlySet<string>): MiddlewareHandler {
  return async (c, next) => {
    c.header('Cache-Control', 'no-store');
    c.header('X-Content-Type-Options', 'nosniff');
    if (!hosts().has((c.req.header('host') ?? '').toLowerCase())) {
      return c.text('This server answers to its own address only (Host header).\n', 403);
    }
    await next();
    return undefined;
  };
}

function hostsOf(port: number): ReadonlySet<string> {
  const hosts = OWN_NAMES.map((name) => `${name}:${port}`);
  // Port 80 is left out of the Host header.
  return new Set(port === 80 ? [...hosts, ...OWN_NAMES] : hosts);
}

async function listen(server: ServerType, port: number, flag: string): Promise<number> {
  try {
    server.listen(port, HOSTNAME);
    await once(server, 'listening');
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : null;
    if (code === 'EADDRINUSE') {
      throw new UserError(
        `HTTP port ${port} on ${HOSTNAME} is in use; choose another with ${flag}, or ${flag} 0 for any free one`,
      );
    }
    if (code === 'EACCES') {
      throw new UserError(
        `HTTP port ${port} may not be opened by this user; choose one above 1023 with ${flag}`,
        EXIT_USAGE,
      );
    }
    throw cause;
  }
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : port;
}
