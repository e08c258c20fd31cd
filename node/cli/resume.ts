/** murmurate resume: a peer that was paused trains again. */
import { rememberResting } from '../store/settings.js';
import { askPeer } from './control.js';
import { directoryOption } from './peer-options.js';
import { defineVerb } from './verb.js';

export const resumeVerb = defineVerb({
  name: 'resume',
  summary: 'Have a peer that was paused train again; it may run or not.',
  args: [],
  options: { ...directoryOption },
  example: `
$ murmurate resume
the peer trains again, from the next epoch on at the latest`,
  run: async ({ options: { dir }, io }) => {
    const request = { verb: 'resume', epochs: null };
    const sentence = await askPeer(dir, request, io.signal, async (directory) => {
      await rememberResting(directory, false);
      return 'the peer trains again when it is started, with murmurate start or join';
    });
    io.stdout.write(`${sentence}\n`);
  },
});
