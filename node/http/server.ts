/** The local server of a peer: read-only, for programs and the browser of this machine. */
import { Hono } from 'hono';
import { eventRoutes } from './event-routes.js';
import { ownHostOnly, serveLoopback, type LoopbackServer } from './loopback.js';
import { metricsRoutes } from './metrics-routes.js';
import { pageRoutes } from './page-routes.js';
import type { PeerView, Routes } from './routes.js';
import { statusRoutes } from './status-routes.js';

export interface HttpServerInit {
  /** 1 to 65535, or 0 for any free one. */
  port: number;
  /** What is shown. */
  peer: PeerView;
}

export type HttpServer = LoopbackServer;

/** What the server answers, in files of routes. */
const ROUTES: readonly Routes[] = [pageRoutes, eventRoutes, statusRoutes, metricsRoutes];

/** Resolves when the server accepts connections. Throws UserError when the port cannot be had. */
export async function startHttpServer({ port, peer }: HttpServerInit): Promise<HttpServer> {
  const closed = new AbortController();
  const app = guarded();
  for (const routes of ROUTES) routes(app, peer, closed.signal);
  const server = await serveLoopback({ port, flag: '--http' }, app);
  return {
    url: server.url,
    port: server.port,
    stop: () => {
      closed.abort();
      return server.stop();
    },
  };
}

/** An app without routes that refuses what no route may see. */
function guarded(): Hono {
  const app = new Hono();
  app.use(ownHostOnly());
  app.use(async (c, next) => {
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
