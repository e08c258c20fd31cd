/** Names on the wire. A new major version gets a new name, so that two versions never misread each other. */

/** Version of the manifest and update encodings. */
export const PROTOCOL_VERSION = 1;

/** Streams: anti-entropy between two peers of one run (docs/PROTOCOL.md, "Sync"). */
export const SYNC_PROTOCOL_ID = '/murmurate/sync/1.0.0';

/** Streams: a large update, or anything else that a hash names, in chunks (docs/PROTOCOL.md, "Blobs"). */
export const BLOB_PROTOCOL_ID = '/murmurate/blob/1.0.0';

/** Streams: which runs are here, and who takes part (docs/PROTOCOL.md, "Introduction"). */
export const INTRODUCE_PROTOCOL_ID = '/murmurate/introduce/1.0.0';

/** Streams: can I be dialled from where you are? (docs/PROTOCOL.md, "Reach check"). */
export const REACH_PROTOCOL_ID = '/murmurate/reach/1.0.0';

/** The DHT is this project's own: Murmurate peers do not join the public IPFS table. */
export const DHT_PROTOCOL_ID = '/murmurate/kad/1.0.0';

/** The gossip topic of a run. `runId` is 64 hexadecimal digits. */
export function updateTopic(runId: string): string {
  return `/murmurate/1/${runId}/update`;
}
