/**
 * Asks the peer or bootstrap node of a data directory, from inside its container, whether it is well: for health
 * checks, so it loads nothing of the program. Exit code 0: yes, 1: no, with why on stderr, 2: wrong usage.
 *
 *   node dist/deploy/health.js ready DIR       the peer takes part: GET /healthz says 200
 *   node dist/deploy/health.js alive DIR       its status server answers, whatever it says
 *   node dist/deploy/health.js listening DIR   the port in DIR/port takes connections (bootstrap nodes)
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

/** Less than the time that the deployments give a check, so that the reason is told. */
const TIMEOUT_MS = 5_000;

const CHECKS: Readonly<Record<string, (dir: string, signal: AbortSignal) => Promise<void>>> = {
  ready: async (dir, signal) => {
    const response = await askHealth(dir, signal);
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  },
  alive: async (dir, signal) => {
    await askHealth(dir, signal);
  },
  listening: async (dir, signal) => {
    const socket = connect(Number(readLine(join(dir, 'port'))), '127.0.0.1');
    await once(socket, 'connect', { signal });
    socket.destroy();
  },
};

/** The file is there while a peer runs that has its run: before that, it is neither ready nor lost. */
function askHealth(dir: string, signal: AbortSignal): Promise<Response> {
  return fetch(new URL('/healthz', readLine(join(dir, 'http'))), { signal });
}

function readLine(file: string): string {
  return readFileSync(file, 'utf8').trim();
}

const [name = '', dir] = process.argv.slice(2);
const check = CHECKS[name];
if (check === undefined || dir === undefined) {
  process.stderr.write(`usage: health.js ${Object.keys(CHECKS).join('|')} DIR\n`);
  process.exit(2);
}
try {
  await check(dir, AbortSignal.timeout(TIMEOUT_MS));
  process.exit(0);
} catch (error) {
  process.stderr.write(`not ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
