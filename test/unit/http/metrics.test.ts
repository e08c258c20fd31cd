import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { METRICS, processMetrics, statusMetrics } from '../../../node/http/metrics.js';
import { PACKAGE_DIRECTORY } from '../../../node/version.js';
import { sampleStatus } from '../status-sample.js';

const document = (name: string): string =>
  readFileSync(join(PACKAGE_DIRECTORY, 'docs', name), 'utf8');

async function linesOf(report = sampleStatus()): Promise<string[]> {
  return (await statusMetrics(report).metrics()).split('\n').filter((line) => /^[a-z]/.test(line));
}

describe('metrics of a peer', () => {
  it('tell what the status tells, in base units', async () => {
    const lines = await linesOf();
    for (const expected of [
      'murmurate_info{version="0.1.0"} 1',
      'murmurate_epoch_duration_seconds 7.5',
      'murmurate_cohorts 2',
      'murmurate_state{state="training"} 1',
      'murmurate_state{state="idle"} 0',
      'murmurate_training_steps_total 31',
      'murmurate_held_out_loss_nats{model="base"} 4.25',
      'murmurate_held_out_loss_nats{model="swarm"} 3.75',
      'murmurate_held_out_loss_nats{model="personal"} 3.5',
      'murmurate_updates_rejected_total{code="sealed"} 6',
      'murmurate_traffic_bytes_total{direction="in",purpose="gossip"} 100',
      'murmurate_members{connection="direct"} 1',
      'murmurate_clock_offset_max_seconds 0.02',
      'murmurate_update_dense_bytes 40960',
    ])
      assert.ok(lines.includes(expected), `${expected} in\n${lines.join('\n')}`);
  });

  it('leave out what has no value, so that no graph shows a 0 that nobody measured', async () => {
    const report = sampleStatus();
    const none = { base: null, now: null, personal: null, personalEpoch: null };
    report.heldOutLoss = { ...none, history: [] };
    report.data = null;
    const text = (await linesOf(report)).join('\n');
    assert.doesNotMatch(text, /held_out|epsilon|data_/);
  });

  it('have as many series with a hundred members as with one, and name none of them', async () => {
    const report = sampleStatus();
    const [peer] = report.peers;
    assert.ok(peer);
    const before = (await linesOf(report)).length;
    report.peers = Array.from({ length: 100 }, (_, i) => ({
      ...peer,
      peerId: `${peer.peerId}${i}`,
    }));
    const lines = await linesOf(report);
    assert.equal(lines.length, before);
    const text = lines.join('\n');
    for (const secret of ['12D3Koo', '127.0.0.1', report.run.name, report.run.id])
      assert.ok(!text.includes(secret), secret);
  });

  it('end in a base unit, or in _total where they count', () => {
    for (const { name, isCounter } of METRICS) {
      assert.match(name, /^murmurate_[a-z_]+$/);
      assert.equal(name.endsWith('_total'), isCounter === true, name);
      assert.doesNotMatch(name, /_(ms|milliseconds|kb|mb|minutes)(_|$)/);
    }
  });

  it('are all in the table of docs/DASHBOARD.md, with these words', () => {
    const table = METRICS.map(({ name, help, labels = [] }) => {
      const at = labels.length === 0 ? '' : `{${labels.join(', ')}}`;
      return `| \`${name}${at}\` | ${help} |`;
    }).join('\n');
    assert.ok(document('DASHBOARD.md').includes(table), `the table must be:\n${table}`);
  });

  it('hold every metric, label and value that the Grafana dashboard asks for', async () => {
    const report = sampleStatus();
    const own = await statusMetrics(report).getMetricsAsJSON();
    const known = new Map(METRICS.map(({ name, labels = [] }) => [name, labels]));
    for (const { name } of await processMetrics().getMetricsAsJSON()) known.set(name, []);
    for (const { title, expr, legendFormat } of queries()) {
      const what = `${title}: ${expr}`;
      const asked = [...expr.matchAll(/\b([a-z]\w*_\w+)(?:\{([^}]*)\})?/g)];
      assert.ok(asked.length > 0, what);
      for (const [, name = '', selector = ''] of asked) {
        const labels = known.get(name);
        assert.ok(labels, `${what} asks for ${name}`);
        for (const [, label = '', value = ''] of selector.matchAll(
          /(\w+)\s*[!=]=?~?\s*"([^"]*)"/g,
        )) {
          if (OF_PROMETHEUS.includes(label)) continue;
          assert.ok(labels.includes(label), `${what}: ${name} has no label ${label}`);
          const values = own.find((one) => one.name === name)?.values ?? [];
          assert.ok(
            values.some(({ labels: at }) => at[label] === value),
            `${what}: no ${label} is ${value}`,
          );
        }
        // What is summed keeps the labels that it is summed by.
        const kept = /\bby \(([^)]*)\)/.exec(expr)?.[1]?.split(/, */);
        for (const label of kept ?? [])
          assert.ok([...OF_PROMETHEUS, ...labels].includes(label), `${what}: by ${label}`);
        for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
          assert.ok(
            (kept ?? [...OF_PROMETHEUS, ...labels]).includes(label),
            `${what}: {{${label}}}`,
          );
      }
    }
  });

  it('are shown by the Grafana dashboard in their own units', () => {
    assert.ok(queries().length >= 15);
    for (const { title, expr, unit } of queries())
      assert.equal(unit, unitOf(expr), `${title}: ${expr}`);
  });
});

/** Labels that Prometheus adds. */
const OF_PROMETHEUS = ['instance', 'job'];

interface Query {
  title: string;
  expr: string;
  legendFormat: string;
  /** Of its panel, as Grafana calls it. */
  unit: string;
}

interface Board {
  panels: {
    title: string;
    fieldConfig?: { defaults?: { unit?: string } };
    targets?: { expr: string; legendFormat?: string }[];
  }[];
}

/** All that the dashboard asks Prometheus. */
function queries(): Query[] {
  const { panels } = JSON.parse(document('grafana-dashboard.json')) as Board;
  return panels.flatMap(({ title, fieldConfig, targets = [] }) =>
    targets.map(({ expr, legendFormat = '' }) => ({
      ...{ title, expr, legendFormat },
      unit: fieldConfig?.defaults?.unit ?? 'none',
    })),
  );
}

/** The unit of what `expr` gives, by the names of its metrics. */
function unitOf(expr: string): string {
  if (/^\S+ \/ \S+$/.test(expr)) return 'percentunit';
  if (/\brate\(\w+_bytes/.test(expr)) return 'Bps';
  if (/_bytes\b/.test(expr)) return 'bytes';
  if (/tokens_per_second\b/.test(expr)) return 'tokens/s';
  return /_seconds\b/.test(expr) ? 's' : 'none';
}
