/** Asks a peer's local HTTP server how it is, with no more than a user has: GET /status. */
import { z } from 'zod';

/** A peer answers from memory; this is for a machine that is busy training. */
const STATUS_TIMEOUT_MS = 5_000;

const bytes = z.object({ total: z.number() });

/** The part of GET /status that the demonstration reads. */
const statusSchema = z.object({
  peerId: z.string(),
  run: z.object({
    id: z.string(),
    epoch: z.number(),
    epochsMax: z.number(),
    state: z.string(),
  }),
  training: z.object({ step: z.number(), tokensPerSecond: z.number().nullable() }),
  adapter: z.object({ sha256: z.string(), updates: z.number() }),
  heldOutLoss: z.object({ base: z.number().nullable(), now: z.number().nullable() }),
  traffic: z.object({ bytesIn: bytes, bytesOut: bytes }),
  attention: z.array(z.string()),
});

export type PeerStatus = z.infer<typeof statusSchema>;

/** `url` is the address that the peer printed. Null while it does not answer. Throws `signal.reason`. */
export async function fetchStatus(url: string, signal: AbortSignal): Promise<PeerStatus | null> {
  try {
    const response = await fetch(new URL('/status', url), {
      signal: AbortSignal.any([signal, AbortSignal.timeout(STATUS_TIMEOUT_MS)]),
    });
    return response.ok ? statusSchema.parse(await response.json()) : null;
  } catch (error) {
    signal.throwIfAborted();
    // Anything else that speaks HTTP is no peer: that does not mend itself.
    if (error instanceof z.ZodError) throw error;
    return null;
  }
}

/** All peers are past the last epoch, and hold the same adapter of the same run. */
export function allFinished(statuses: readonly (PeerStatus | null)[]): boolean {
  const first = statuses[0];
  if (first === null || first === undefined) return false;
  return statuses.every(
    (status) =>
      status?.run.state === 'finished' &&
      status.run.id === first.run.id &&
      status.adapter.sha256 === first.adapter.sha256,
  );
}
