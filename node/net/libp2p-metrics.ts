/** libp2p's own measurements for Prometheus, beside the traffic meter, which counts the bytes. */
import type { ComponentLogger, Metrics } from '@libp2p/interface';
import { prometheusMetrics } from '@libp2p/prometheus-metrics';
import type { Registry } from 'prom-client';

/** Labelled with the addresses that this peer listens on, which are nobody's business. */
const WITH_ADDRESSES = /^libp2p_tcp_/;

/** The library's own measurements of the machine: of all disks and memory, and less than prom-client's. */
const OF_THE_MACHINE = [
  'nodejs_memory_usage_bytes',
  'nodejs_memory_total_bytes',
  'nodejs_fs_usage_bytes',
  'libp2p_data_transfer_bytes_total',
];

/**
 * A metrics component of a libp2p node that counts traffic as `counting` does and registers what libp2p measures in
 * `registry`. The library remembers metrics by name for the whole process: with several nodes in one process, as in
 * tests, the registry of the newest counts.
 */
export function registeringMetrics(
  counting: Metrics,
  registry: Registry,
  components: { logger: ComponentLogger },
): Metrics {
  const prometheus = prometheusMetrics({ registry, collectDefaultMetrics: false })(components);
  for (const name of OF_THE_MACHINE) registry.removeSingleMetric(name);
  const of = (name: string): Metrics => (WITH_ADDRESSES.test(name) ? counting : prometheus);
  // Overloaded: with a function that calculates the value nothing is returned.
  const register = (method: keyof Metrics) => (name: string, options?: object) => {
    const metrics = of(name);
    return (metrics[method] as (name: string, options?: object) => unknown).call(
      metrics,
      name,
      options,
    );
  };
  const methods = [
    ...(['registerMetric', 'registerMetricGroup', 'registerCounter'] as const),
    ...(['registerCounterGroup', 'registerHistogram', 'registerHistogramGroup'] as const),
    ...(['registerSummary', 'registerSummaryGroup'] as const),
  ];
  const registering = Object.fromEntries(methods.map((method) => [method, register(method)]));
  return { ...counting, ...registering };
}
