/** A host on the port of its last start, so that the addresses that others know stay true. */
import { UserError } from '../errors.js';
import { errnoOf, readIfThere, replaceFile } from '../files.js';
import type { Logger } from '../interfaces.js';
import { PRIVATE_FILE } from '../private-file.js';
import { reasonOf } from './errors.js';
import { createHost, type Host, type HostInit } from './host.js';

const PORT_MAX = 65_535;

/** Text that is longer than any port is no port. */
const TEXT_BYTES_MAX = 16;

/**
 * Makes a host whose port 0 means the port in the file at `path`, if it is free, and remembers the one taken.
 * @throws UserError when an address is malformed or cannot be listened on, or the file not written.
 */
export async function openHostOnSamePort(
  path: string,
  init: Omit<HostInit, 'preferredPort'>,
  logger: Logger,
): Promise<Host> {
  const preferredPort = await loadPort(path);
  const host = await createHost({ ...init, preferredPort });
  const port = host.listenPort();
  if (port === null || port === preferredPort) return host;
  if (preferredPort !== null) {
    logger.warn(
      { preferredPort, port },
      'the port of the last start is not used: hand out the new address',
    );
  }
  try {
    await replaceFile(path, [`${port}\n`], PRIVATE_FILE);
    return host;
  } catch (cause) {
    await host.stop();
    throw new UserError(
      `${path} cannot be written (${errnoOf(cause) ?? reasonOf(cause)}): check the directory's permissions and free space`,
      undefined,
      { cause },
    );
  }
}

/** Null when no port was remembered, or the file is damaged: any free port is as good then. */
async function loadPort(path: string): Promise<number | null> {
  const bytes = await readIfThere(path).catch(() => null);
  if (bytes === null || bytes.length > TEXT_BYTES_MAX) return null;
  const port = Number(new TextDecoder().decode(bytes).trim());
  return Number.isInteger(port) && port > 0 && port <= PORT_MAX ? port : null;
}
