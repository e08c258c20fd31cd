/** murmurate swarm-key: makes the key of a private network. */
import { makeSwarmKey } from '../net/swarm-key.js';
import { defineVerb } from './verb.js';

export const swarmKeyVerb = defineVerb({
  name: 'swarm-key',
  summary: 'Make the key of a private network, for --swarm-key.',
  args: [{ name: 'FILE', help: 'new file, which only you may read', required: true }],
  options: {},
  example: `
$ murmurate swarm-key swarm.key
swarm.key holds the key of a private network; give it to each peer by a way that you trust`,
  run: async ({ args: [file], io }) => {
    const path = file ?? '';
    await makeSwarmKey(path);
    io.stdout.write(
      `${path} holds the key of a private network; give it to each peer by a way that you trust\n`,
    );
  },
});
