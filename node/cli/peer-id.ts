/** murmurate peer-id: the name by which others know the peer of a directory, before there is a run as well. */
import { loadOrCreateIdentity } from '../net/identity.js';
import { DataDirectory } from '../store/directory.js';
import { directoryOption } from './peer-options.js';
import { defineVerb } from './verb.js';

export const peerIdVerb = defineVerb({
  name: 'peer-id',
  summary: "Print this peer's id, for --allow; makes its key where there is none.",
  args: [],
  options: { ...directoryOption },
  example: `
$ murmurate peer-id
12D3KooWQp6h...`,
  run: async ({ options, io }) => {
    const directory = new DataDirectory(options.dir);
    for (const sentence of await directory.create()) io.stderr.write(`${sentence}\n`);
    const { peerId } = await loadOrCreateIdentity(directory.pathOf('identity'));
    io.stdout.write(`${peerId}\n`);
  },
});
