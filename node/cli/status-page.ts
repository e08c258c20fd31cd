/** The local server of a peer, on the port of its last start, so that a page that is open finds the peer again. */
import type { PeerView } from '../http/routes.js';
import { startHttpServer, type HttpServer } from '../http/server.js';
import { UserError } from '../errors.js';
import type { DataDirectory } from '../store/directory.js';

const PORT_MAX = 65_535;

/** Answers 503 until `show` is called. */
export interface StatusPage {
  /** Null with --http off. */
  server: HttpServer | null;
  show(peer: PeerView): void;
}

/**
 * `http` is the port; 0 means that of the last start, if it is free, or any other. Throws UserError when the port
 * cannot be had, StoreUnavailableError when it cannot be remembered.
 */
export async function openStatusPage(
  http: number | 'off',
  directory: DataDirectory,
): Promise<StatusPage> {
  let shown: PeerView = { status: () => null, history: () => [], registries: () => [] };
  const show = (peer: PeerView): void => {
    shown = peer;
  };
  if (http === 'off') return { server: null, show };
  const peer: PeerView = {
    status: () => shown.status(),
    history: () => shown.history(),
    registries: () => shown.registries(),
  };
  const last = http === 0 ? await lastPort(directory) : null;
  const server = await startOn(last ?? http, http, peer);
  try {
    if (server.port !== last) await directory.writeLines('httpPort', [String(server.port)]);
  } catch (error) {
    await server.stop();
    throw error;
  }
  return { server, show };
}

/** On `preferred`, or on `wanted` where somebody else has that meanwhile. */
async function startOn(preferred: number, wanted: number, peer: PeerView): Promise<HttpServer> {
  try {
    return await startHttpServer({ port: preferred, peer });
  } catch (error) {
    if (preferred === wanted || !(error instanceof UserError)) throw error;
    return startHttpServer({ port: wanted, peer });
  }
}

/** Null when none was remembered, or the file is damaged: any free port is as good then. */
async function lastPort(directory: DataDirectory): Promise<number | null> {
  const [line = ''] = await directory.readLines('httpPort');
  const port = /^\d{1,5}$/.test(line) ? Number(line) : 0;
  return port >= 1 && port <= PORT_MAX ? port : null;
}
