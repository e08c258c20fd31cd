/**
 * A long line in user space: passes TCP on, each byte a fixed time later, in order. Kernels without netem
 * cannot do it themselves.
 */
import net from 'node:net';

/** Bytes under way in one direction; a sender that is faster waits, as on a real line. */
const BYTES_MAX = 16 * 1024 * 1024;

/** Where what comes in at `listenPort` goes, from the address `from`. */
export interface Route {
  listenPort: number;
  host: string;
  port: number;
  from: string;
}

/** Listens on all addresses until the process ends. Rejects when the port is taken. */
export async function delayProxy(route: Route, delayMs: number): Promise<net.Server> {
  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (near) => {
    const { host, port, from } = route;
    const far = net.connect({ host, port, localAddress: from, noDelay: true, allowHalfOpen: true });
    carry(near, far, delayMs);
    carry(far, near, delayMs);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(route.listenPort, resolve);
  });
  return server;
}

/** One direction. One timer for the head of one queue: timers of their own would overtake each other. */
function carry(source: net.Socket, target: net.Socket, delayMs: number): void {
  const queue: { dueMs: number; data: Buffer | null }[] = [];
  let underWay = 0;
  let timer: NodeJS.Timeout | null = null;
  const deliver = (): void => {
    timer = null;
    for (let head = queue[0]; head !== undefined; head = queue[0]) {
      const waitMs = head.dueMs - performance.now();
      if (waitMs > 0) {
        timer = setTimeout(deliver, Math.ceil(waitMs));
        return;
      }
      queue.shift();
      if (head.data === null) target.end();
      else {
        underWay -= head.data.length;
        target.write(head.data);
      }
      if (underWay < BYTES_MAX) source.resume();
    }
  };
  const send = (data: Buffer | null): void => {
    underWay += data?.length ?? 0;
    if (underWay >= BYTES_MAX) source.pause();
    queue.push({ dueMs: performance.now() + delayMs, data });
    timer ??= setTimeout(deliver, delayMs);
  };
  source.on('data', send);
  source.on('end', () => send(null));
  // The other side learns of a break at once: a reset of a real line would come as a time-out anyway.
  source.on('error', () => target.destroy());
  source.on('close', (hadError) => {
    if (hadError) target.destroy();
  });
  target.on('close', () => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    queue.length = 0;
  });
}
