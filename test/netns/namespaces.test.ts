/** The networks that the other tests of this folder stand on. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, describe, it } from 'node:test';
import { Network, type Mapping } from './namespaces.js';

const network = new Network('nat');
after(() => network.close());

/** Serves one connection and says where it came from; prints its port when it listens. */
const SERVER = `require('node:net').createServer((s) => s.end(s.remoteAddress + ' ' + s.remotePort))
  .listen(+process.argv[1], '0.0.0.0', () => console.log('up'))`;
/** Prints what the server at argv[1] port argv[2] says, or why it does not; from local port argv[3]. */
const CLIENT = `const [, host, port, localPort] = process.argv;
  const socket = require('node:net').connect({ host, port: +port, localPort: +localPort, timeout: 2000 });
  socket.on('data', (text) => console.log(String(text)));
  socket.on('error', ({ code }) => console.log(code));
  socket.on('timeout', () => { console.log('timeout'); process.exit(); });`;

describe('a network of namespaces', () => {
  for (const mapping of ['endpoint-independent', 'endpoint-dependent'] satisfies Mapping[]) {
    it(`hides machines behind a router with ${mapping} mapping, and forwards a port when told to`, async () => {
      const name = mapping === 'endpoint-dependent' ? 'd' : 'i';
      const [wan, lan] = [await network.switch(`wan-${name}`), await network.switch(`lan-${name}`)];
      const [out, home] = [
        await network.machine(`out-${name}`),
        await network.machine(`in-${name}`),
      ];
      await network.plug(out, wan, '45.0.0.2/24');
      const link = await network.plug(home, lan, '192.168.1.2/24', '192.168.1.1');
      const router = await network.router(
        `nat-${name}`,
        { lan: wan, cidr: '45.0.0.9/24' },
        { lan, cidr: '192.168.1.1/24' },
        mapping,
      );
      const servers = [out, home].map(({ prefix: [program = '', ...rest] }) =>
        spawn(program, [...rest, process.execPath, '-e', SERVER, '7000'], { stdio: 'pipe' }),
      );
      for (const { stdout } of servers) await stdout.take(1).toArray();
      const ask = async (from: typeof out, host: string, localPort = 0): Promise<string> => {
        const args = [host, '7000', String(localPort)];
        return (await from.run(process.execPath, '-e', CLIENT, ...args)).trim();
      };

      const [address, port] = (await ask(home, '45.0.0.2', 6000)).split(' ');
      assert.equal(address, '45.0.0.9');
      assert.equal(port === '6000', mapping === 'endpoint-independent', port);
      assert.equal(await ask(out, '45.0.0.9'), 'timeout');
      await network.forwardPort(router, 7000, '192.168.1.2');
      assert.match(await ask(out, '45.0.0.9'), /^45\.0\.0\.2 \d+$/);
      await link.cut();
      assert.equal(await ask(home, '45.0.0.2'), 'timeout');
      await link.mend();
      assert.match(await ask(home, '45.0.0.2'), /^45\.0\.0\.9 \d+$/);
    });
  }
});
