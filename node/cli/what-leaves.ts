/** murmurate what-leaves: every kind of byte that leaves this machine, what is in it, how much so far and to whom. */
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
    holds:
      'signed updates and seals of this peer and, passed on, of others: epoch, number of steps, and one bit for each adapter weight; announcements of large ones, proofs, amendments, admissions',
    lacks: 'text, tokens, file names, losses',
  },
  {
    purpose: 'sync',
    name: 'sync',
    holds:
      'which epochs of whom this peer holds, the clock, updates that another lacks, and seals: what members sign of them',
    lacks: 'text, tokens, file names, the optimiser, the residual',
  },
  {
    purpose: 'blob',
    name: 'blobs',
    holds:
      'updates too large for gossip and sums of updates (the common adapter), in chunks, to whoever of the run asks; with --share-model the files of the base model too, to members that lack it',
    lacks: 'text, tokens, names of other files',
  },
  {
    purpose: 'introduce',
    name: 'introductions',
    holds:
      'the manifest (name of the run, name and hashes of the base model, settings), addresses of this and other members, and how this peer was invited; a bootstrap node keeps both',
    lacks: 'updates, text, file names, the path of the model',
  },
  {
    purpose: 'reach',
    name: 'reach checks',
    holds: 'ports that this peer listens on, and at which address another was seen',
    lacks: 'anything of the run',
  },
  {
    purpose: 'identify',
    name: 'identify',
    holds:
      'peer id, addresses (those of the own network too), protocols, and versions of libp2p and Node',
    lacks: 'host name, user name, anything of the run',
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
    holds:
      "a hash of the run id and this peer's addresses, so that members find each other; questions for other hashes",
    lacks: 'the manifest, updates',
  },
  {
    purpose: 'relay',
    name: 'relay',
    holds:
      'with --relay: encrypted bytes between others; otherwise only requests for a place at a relay',
    lacks: 'anything that this peer could read',
  },
  {
    purpose: 'other',
    name: 'framing',
    holds: 'handshakes, encryption and framing of all of the above, on every connection',
    lacks: 'anything beside public keys',
  },
  {
    purpose: null,
    name: 'multicast DNS',
    holds:
      'on the own network, unless --no-mdns: eight digits of the run id, peer id and addresses; not counted',
    lacks: 'host name, user name',
  },
  {
    purpose: null,
    name: 'hub',
    holds:
      "to the hub, only with --model OWNER/NAME or auto, over HTTP: the name and revision of the model, the version of this program, and the user's access token; to hosts it redirects to, no token; not counted",
    lacks: 'anything of the run, text, file names',
  },
  {
    purpose: null,
    name: 'UPnP',
    holds: 'to the own router, with --upnp only: the port to forward; not counted',
    lacks: 'anything of the run',
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
  summary: 'Print every kind of byte that leaves this machine, how many so far, and to whom.',
  args: [statusUrlArgument],
  options: { ...directoryOption, ...jsonOption },
  example: `
$ murmurate what-leaves
since this peer started 250 s ago, 712345 bytes have left this machine
gossip          612001 bytes to ...Rm4tQx9b 400120, ...Qp6hJm2c 211881
                holds: signed updates of this peer and, passed on, of others: ...
                never: text, tokens, file names, losses
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
