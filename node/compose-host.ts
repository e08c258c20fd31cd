/** The libp2p host of a peer: on the port that it had before a restart, so that its addresses stay true. */
import type { Home } from './home.js';
import type { Logger } from './interfaces.js';
import { createHost, type Host } from './net/host.js';

/** Throws UserError when an address is malformed or cannot be listened on, StoreUnavailableError. */
export async function openHost(
  { directory, identity }: Pick<Home, 'directory' | 'identity'>,
  listen: readonly string[],
  logger: Logger,
): Promise<Host> {
  const before = Number((await directory.readLines('port'))[0]);
  const preferredPort = Number.isInteger(before) && before > 0 && before < 65_536 ? before : null;
  const host = await createHost({ identity, listen, preferredPort });
  const port = host.listenPort();
  if (preferredPort !== null && port !== preferredPort) {
    logger.warn(
      { preferredPort, port },
      'the port of the last start is not used: hand out the new address',
    );
  }
  if (port !== null && port !== preferredPort) await directory.writeLines('port', [String(port)]);
  return host;
}
