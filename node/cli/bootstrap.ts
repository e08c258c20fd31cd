/** murmurate bootstrap: introduces peers to each other and never trains. */
import { setTimeout as delay } from 'node:timers/promises';
import type { BootstrapNode } from '../../bootstrap/bootstrap-node.js';
import { option, text } from '../config.js';
import { UserError } from '../errors.js';
import { createLogger } from '../log.js';
import { DataDirectory } from '../store/directory.js';
import { lockDirectory } from '../store/lock.js';
import { jsonOption, listenOption, logOptions, swarmKeyOption } from './peer-options.js';
import { reachNote } from './reach.js';
import { givenSwarmKey } from './session.js';
import { defineVerb, type VerbIo } from './verb.js';
import { rawOutput } from './output.js';

/** How often the list of runs is looked at, in ms. */
const POLL_MS = 1_000;

export const bootstrapVerb = defineVerb({
  name: 'bootstrap',
  summary: 'Introduce peers to each other; trains nothing and may serve many runs.',
  stays: true,
  args: [],
  options: {
    dir: option(text('DIR'), './murmurate-bootstrap', 'data directory of this node'),
    ...listenOption,
    ...swarmKeyOption,
    ...jsonOption,
    ...logOptions,
  },
  example: `
$ murmurate bootstrap --listen /ip4/0.0.0.0/tcp/4001
address  /ip4/192.0.2.1/tcp/4001/p2p/12D3KooWRm4t...
open to the network: whoever reaches these addresses can connect (--listen /ip4/127.0.0.1/tcp/0 keeps to this machine)
offices 3f1c9a0b2d44: 3 members

Elsewhere: murmurate start --bootstrap /ip4/192.0.2.1/tcp/4001/p2p/12D3KooWRm4t... --data clinic.jsonl
           murmurate join /ip4/192.0.2.1/tcp/4001/p2p/12D3KooWRm4t... --data law.jsonl`,
  run: async ({ options, io }) => {
    const { dir, listen, json, logLevel, logFormat } = options;
    const swarmKey = await givenSwarmKey(options.swarmKey);
    const logger = createLogger({
      level: logLevel,
      format: logFormat,
      out: rawOutput(io.stderr),
      colour: io.terminal,
    });
    for (const sentence of await new DataDirectory(dir).create()) io.stderr.write(`${sentence}\n`);
    const lost = new AbortController();
    const lock = await lockDirectory(dir, (sentence) => lost.abort(new UserError(sentence)));
    try {
      const { startBootstrap } = await import('../../bootstrap/bootstrap-node.js');
      const node = await startBootstrap({ dir, listen, swarmKey, logger });
      try {
        const addresses = node.addresses();
        io.stderr.write(reachNote(addresses));
        io.stdout.write(
          json
            ? `${JSON.stringify({ peerId: node.peerId, addresses })}\n`
            : addresses.map((address) => `address  ${address}\n`).join(''),
        );
        await report(node, AbortSignal.any([io.signal, lost.signal]), io);
      } finally {
        await node.stop();
      }
    } finally {
      await lock.release();
    }
    lost.signal.throwIfAborted();
  },
});

/** A line on stderr whenever the runs or their members change, until `stop` aborts. */
async function report(node: BootstrapNode, stop: AbortSignal, io: VerbIo): Promise<void> {
  let shown = '';
  while (!stop.aborted) {
    const text = node
      .runs()
      .map(
        ({ run, members }) =>
          `${run.manifest.name} ${run.id.slice(0, 12)}: ${members} ${members === 1 ? 'member' : 'members'}\n`,
      )
      .join('');
    if (text !== shown) io.stderr.write(text);
    shown = text;
    await delay(POLL_MS, undefined, { signal: stop }).catch(() => undefined);
  }
}
