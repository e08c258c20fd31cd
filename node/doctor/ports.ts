/** Which process listens on a TCP port, as Linux tells it in /proc. */
import { readdir, readFile, readlink } from 'node:fs/promises';

/** State of a listening socket in /proc/net/tcp. */
const LISTENING = '0A';

/** E.g. "node (process 4711)"; null when it is unknown: another system, or a process of another user. */
export async function listenerOn(port: number): Promise<string | null> {
  const sockets = new Set<string>();
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6']) {
    for (const line of (await textOf(table)).split('\n').slice(1)) {
      const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/);
      const isPort = parseInt(local.split(':')[1] ?? '', 16) === port;
      if (isPort && state === LISTENING) sockets.add(`socket:[${inode}]`);
    }
  }
  if (sockets.size === 0) return null;
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    for (const handle of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const target = await readlink(`/proc/${pid}/fd/${handle}`).catch(() => '');
      if (!sockets.has(target)) continue;
      return `${(await textOf(`/proc/${pid}/comm`)).trim() || 'a program'} (process ${pid})`;
    }
  }
  return null;
}

function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
