/** GET /metrics: for Prometheus, in its text format. */
import { Registry } from 'prom-client';
import { processMetrics, statusMetrics } from './metrics.js';
import type { Routes } from './routes.js';

export const metricsRoutes: Routes = (app, peer) => {
  app.get('/metrics', async (c) => {
    const report = peer.status();
    if (report === null) return c.text('The peer is starting.\n', 503);
    const parts = [statusMetrics(report), processMetrics(), ...peer.registries()];
    c.header('Content-Type', Registry.PROMETHEUS_CONTENT_TYPE);
    return c.body(await Registry.merge(parts).metrics());
  });
};
