/**
 * A server for programs of this machine alone. A web page that a browser has open cannot read it: it listens on
 * 127.0.0.1, answers carry no CORS header, and a Host header that is not a name of this machine is refused, which stops
 * DNS rebinding.
 */
import { createAdaptorServer, type ServerType } from '@hono/node-server';
import { once } from 'node:events';
import { Server } from 'node:http';
import type { Hono, MiddlewareHandler } from 'hono';
import { EXIT_USAGE, UserError } from '../errors.js';

const HOSTNAME = '127.0.0.1';
/**
 * Host headers of a program on this machine. The port may be any: a tunnel has one of its own, and it is the name that
 * an attacker's page cannot have.
 */
const OWN_HOST = /^(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?$/i;

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
 * option in errors; `app` has the routes, behind `ownHostOnly`. Throws UserError when the port is not available.
 */
export async function serveLoopback(
  { port: wanted, flag }: { port: number; flag: string },
  app: Hono,
): Promise<LoopbackServer> {
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
  const port = await listen(server, wanted, flag);
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
export function ownHostOnly(): MiddlewareHandler {
  return async (c, next) => {
    c.header('Cache-Control', 'no-store');
    c.header('X-Content-Type-Options', 'nosniff');
    if (!OWN_HOST.test(c.req.header('host') ?? '')) {
      return c.text(
        'This server answers to localhost, 127.0.0.1 and [::1] only (Host header).\n',
        403,
      );
    }
    await next();
    return undefined;
  };
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
