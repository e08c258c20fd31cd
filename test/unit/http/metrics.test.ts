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
      'murmurate_state{state="training"} 1',
      'murmurate_state{state="idle"} 0',
      'murmurate_training_steps_total 31',
      'murmurate_held_out_loss_nats{model="base"} 4.25',
      'murmurate_held_out_loss_nats{model="swarm"} 3.75',
      'murmurate_held_out_loss_nats{model="personal"} 3.5',
      'murmurate_updates_rejected_total{code="duplicate"} 6',
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
    const text = (await linesOf(report)).join('\n');
    assert.doesNotMatch(text, /held_out|epsilon/);
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

  it('hold every metric that the Grafana dashboard asks for', async () => {
    const board = document('grafana-dashboard.json');
    const asked = new Set(board.match(/\b(murmurate|libp2p|process|nodejs)_[a-z0-9_]+/g));
    const known = new Set([
      ...METRICS.map(({ name }) => name),
      ...(await processMetrics().getMetricsAsJSON()).map(({ name }) => name),
    ]);
    const missing = [...asked].filter((name) => !known.has(name));
    assert.deepEqual(missing, []);
    assert.ok(asked.size >= 12);
    assert.doesNotThrow(() => JSON.parse(board) as unknown);
  });
});
