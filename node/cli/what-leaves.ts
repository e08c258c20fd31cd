/** murmurate what-leaves: every kind of data that leaves this machine, what it contains, how much so far and to whom. */
import Table from 'cli-table3';
import type { StatusReport } from '../status.js';
import { directoryOption, jsonOption } from './peer-options.js';
import { fetchStatus, statusUrlArgument, storedUrl } from './status.js';
import { defineVerb } from './verb.js';

/** One kind of byte; docs/WHAT-LEAVES.md has the same sentences. */
export interface KindOfByte {
  /** As in `traffic` of the status; null where nothing is counted. */
  purpose: string | null;
  name: string;
  holds: string;
  /** What a reader may fear and is not in it. */
  lacks: string;
}

export const KINDS_OF_BYTE: readonly KindOfByte[] = [
  {
    purpose: 'gossip',
    name: 'gossip',
    holds: 'signed updates and seals, of this peer and relayed',
    lacks: 'text, tokens, file names, losses',
  },
  {
    purpose: 'sync',
    name: 'sync',
    holds: 'which updates this peer holds, the clock, missing updates, seals',
    lacks: 'text, tokens, file names, optimiser, residual',
  },
  {
    purpose: 'blob',
    name: 'blobs',
    holds: 'large updates, sums of updates; model files with --share-model',
    lacks: "text, tokens, other files' names",
  },
  {
    purpose: 'introduce',
    name: 'introductions',
    holds: "the manifest, members' addresses, how this peer was invited",
    lacks: "updates, text, file names, the model's path",
  },
  {
    purpose: 'reach',
    name: 'reach checks',
    holds: "ports this peer listens on, another peer's observed address",
    lacks: 'anything about the run',
  },
  {
    purpose: 'identify',
    name: 'identify',
    holds: 'peer id, addresses, protocols, versions of libp2p and Node',
    lacks: 'host name, user name, anything about the run',
  },
  {
    purpose: 'ping',
    name: 'ping',
    holds: '32 random bytes, every few seconds',
    lacks: 'anything else',
  },
  {
    purpose: 'dht',
    name: 'DHT',
    holds: "a hash of the run id, this peer's addresses, queries for other hashes",
    lacks: 'the manifest, updates',
  },
  {
    purpose: 'relay',
    name: 'relay',
    holds: "others' encrypted bytes (--relay); else only requests for a reservation",
    lacks: 'anything this peer could read',
  },
  {
    purpose: 'other',
    name: 'framing',
    holds: 'handshakes, encryption and framing of all of the above',
    lacks: 'anything but public keys',
  },
  {
    purpose: null,
    name: 'multicast DNS',
    holds: '8 digits of the run id, peer id, addresses; not counted',
    lacks: 'host name, user name',
  },
  {
    purpose: null,
    name: 'hub',
    holds: "model name and revision, this program's version, your access token; not counted",
    lacks: 'anything about the run, text, file names',
  },
  {
    purpose: null,
    name: 'UPnP',
    holds: 'to your router, with --upnp: the port to forward; not counted',
    lacks: 'anything about the run',
  },
];

/** One kind as the command prints it with --json. */
interface Leaving extends KindOfByte {
  /** Bytes since the peer started; null where nothing is counted. */
  bytes: number | null;
  /** Peer ids with their bytes, most first; null stands for all peers that are not counted by themselves. */
  to: { peerId: string | null; bytes: number }[];
}

export const whatLeavesVerb = defineVerb({
  name: 'what-leaves',
  summary: 'Print every kind of data that leaves this machine, how many bytes so far, and to whom.',
  args: [statusUrlArgument],
  options: { ...directoryOption, ...jsonOption },
  example: `
$ murmurate what-leaves
since this peer started 250 s ago, 712345 bytes have left this machine
...
│ gossip        │ 612001     │ ...Rm4tQx9b 400120     │ signed updates and seals, of this peer     │ text, tokens, file       │
│               │            │ ...Qp6hJm2c 211881     │ and relayed                                │ names, losses            │
...`,
  run: async ({ args: [url], options, io }) => {
    const { traffic, uptimeSeconds } = await fetchStatus(url ?? (await storedUrl(options.dir)));
    const kinds = leavings(traffic);
    const { total } = traffic.bytesOut;
    if (options.json) {
      io.stdout.write(`${JSON.stringify({ sinceSeconds: uptimeSeconds, total, kinds })}\n`);
      return;
    }
    const head = `since this peer started ${Math.round(uptimeSeconds)} s ago, ${total} bytes have left this machine\n`;
    io.stdout.write(`${head}${formatLeavings(kinds)}\n`);
  },
});

export function leavings({ bytesOut, sentTo }: StatusReport['traffic']): Leaving[] {
  return KINDS_OF_BYTE.map((kind) => {
    const { purpose } = kind;
    if (purpose === null) return { ...kind, bytes: null, to: [] };
    const to = sentTo
      .map(({ peerId, bytes }) => ({ peerId, bytes: bytes[purpose] ?? 0 }))
      .filter(({ bytes }) => bytes > 0)
      .sort((a, b) => b.bytes - a.bytes);
    return { ...kind, bytes: bytesOut[purpose] ?? 0, to };
  });
}

function formatLeavings(kinds: readonly Leaving[]): string {
  const table = new Table({
    head: ['kind', 'bytes', 'to', 'holds', 'never holds'],
    style: { head: [], border: [] },
    colWidths: [15, 12, 24, 44, 26],
    wordWrap: true,
  });
  for (const { name, bytes, to, holds, lacks } of kinds) {
    const whom = to.map(
      ({ peerId, bytes: sent }) =>
        `${peerId === null ? 'others' : `...${peerId.slice(-8)}`} ${sent}`,
    );
    table.push([name, bytes ?? '-', whom.join('\n'), holds, lacks]);
  }
  return table.toString();
}
