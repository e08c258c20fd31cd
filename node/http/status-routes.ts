/** GET /status and GET /healthz: the state of the peer for programs. */
import type { Routes } from './routes.js';

export const statusRoutes: Routes = (app, peer) => {
  app.get('/status', (c) => {
    const report = peer.status();
    return report === null ? c.json({ starting: true }, 503) : c.json(report);
  });
  app.get('/healthz', (c) => {
    const report = peer.status();
    if (report === null) return c.json({ healthy: false, state: 'starting', attention: [] }, 503);
    const { run, attention } = report;
    const healthy = !['paused', 'stopped', 'broken'].includes(run.state);
    return c.json({ healthy, state: run.state, attention }, healthy ? 200 : 503);
  });
};
