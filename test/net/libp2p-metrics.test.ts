import assert from 'node:assert/strict';
import { after, it } from 'node:test';
import type { Host } from '../../node/net/host.js';
import { dial, makeQuietHost, until } from './harness.js';

const hosts: Host[] = [];
after(async () => {
  for (const host of hosts) await host.stop();
});

it('libp2p tells Prometheus of its connections, without an address or a peer id', async () => {
  const other = await makeQuietHost();
  const host = await makeQuietHost();
  hosts.push(other, host);
  await dial(other, host);
  const series = async (): Promise<string[]> =>
    (await host.registry.metrics()).split('\n').filter((line) => /^[a-z]/.test(line));
  await until('the connection to be counted', async () =>
    (await series()).some((line) =>
      /^libp2p_connection_manager_connections\{.*="inbound"\} 1$/.test(line),
    ),
  );
  const lines = await series();
  // 87 with six connections; what grows with protocols and queues stays far below this.
  assert.ok(lines.length > 30 && lines.length < 200, String(lines.length));
  for (const line of lines) assert.doesNotMatch(line, /\d+\.\d+\.\d+\.\d+|\/ip[46]\/|12D3Koo/);
});
