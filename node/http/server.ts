/** The status server of a peer: read-only, for programs of this machine. */
import { Hono } from 'hono';
import type { StatusReport } from '../status.js';
import { ownHostOnly, serveLoopback, type LoopbackServer } from './loopback.js';

export interface HttpServerInit {
  /** 1 to 65535, or 0 for any free port. */
  port: number;
  /** Called for each GET /status; null while the peer is not ready. */
  status: () => StatusReport | null;
}

export type HttpServer = LoopbackServer;

/** Resolves when the server accepts connections. Throws UserError when the port cannot be had. */
export async function startHttpServer({ port, status }: HttpServerInit): Promise<HttpServer> {
  return serveLoopback({ port, flag: '--http' }, (hosts) => createApp(status, hosts));
}

/** The routes, apart from any socket. `ownHosts` are the allowed values of the Host header. */
export function createApp(
  status: () => StatusReport | null,
  ownHosts: () => ReadonlySet<string>,
): Hono {
  const app = new Hono();
  app.use(ownHostOnly(ownHosts));
  app.use(async (c, next) => {
    if (c.req.method !== 'GET' && c.req.method !== 'HEAD') {
      c.header('Allow', 'GET, HEAD');
      return c.text('This server is read-only: use GET.\n', 405);
    }
    await next();
    return undefined;
  });
  app.get('/', (c) =>
    c.text('Murmurate peer. GET /status is its state as JSON, GET /healthz its health.\n'),
  );
  app.get('/status', (c) => {
    const report = status();
    return report === null ? c.json({ starting: true }, 503) : c.json(report);
  });
  app.get('/healthz', (c) => {
    const report = status();
    if (report === null) return c.json({ healthy: false, state: 'starting', attention: [] }, 503);
    const { run, attention } = report;
    const healthy = !['paused', 'stopped', 'broken'].includes(run.state);
    return c.json({ healthy, state: run.state, attention }, healthy ? 200 : 503);
  });
  app.notFound((c) => c.text('There is only /status and /healthz here.\n', 404));
  return app;
}
