/** murmurate pause: a peer goes on sharing but does not train. */
import { rememberResting } from '../store/settings.js';
import { askPeer } from './control.js';
import { directoryOption } from './peer-options.js';
import { PAUSED_SENTENCE } from './requests.js';
import { defineVerb } from './verb.js';

export const pauseVerb = defineVerb({
  name: 'pause',
  summary: 'Have a peer stop training and go on sharing; it may run or not.',
  args: [],
  options: { ...directoryOption },
  example: `
$ murmurate pause
the peer shares but does not train, also after a restart, until murmurate resume`,
  run: async ({ options: { dir }, io }) => {
    const request = { verb: 'pause', epochs: null };
    const sentence = await askPeer(dir, request, io.signal, async (directory) => {
      await rememberResting(directory, true);
      return PAUSED_SENTENCE;
    });
    io.stdout.write(`${sentence}\n`);
  },
});
