/** murmurate leave: ends a running peer as Ctrl-C does. */
import { askPeer, noPeerRuns, untilFree } from './control.js';
import { directoryOption } from './peer-options.js';
import { defineVerb } from './verb.js';

export const leaveVerb = defineVerb({
  name: 'leave',
  summary: 'End a running peer, as Ctrl-C does; it can be started again.',
  args: [],
  options: { ...directoryOption },
  example: `
$ murmurate leave
the peer has left its run; start or join on the same --dir goes on from here`,
  run: async ({ options: { dir }, io }) => {
    const request = { verb: 'leave', epochs: null };
    const sentence = await askPeer(dir, request, io.signal, noPeerRuns);
    await untilFree(dir, io.signal);
    io.stdout.write(`${sentence}\n`);
  },
});
