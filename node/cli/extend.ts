/** murmurate extend: the founder makes its run longer, for all peers. */
import { integer, option } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { EPOCHS_MAX } from '../../protocol/limits.js';
import { askPeer, noPeerRuns } from './control.js';
import { directoryOption } from './peer-options.js';
import { defineVerb } from './verb.js';

export const extendVerb = defineVerb({
  name: 'extend',
  summary: 'Make a run longer; only its founder can, while its peer runs.',
  args: [],
  options: {
    ...directoryOption,
    epochs: option(integer('N', 1, EPOCHS_MAX), null, 'epochs of the whole run from now on'),
  },
  example: `
$ murmurate extend --epochs 60
the run has 60 epochs now; the others hear it from this peer`,
  run: async ({ options: { dir, epochs }, io }) => {
    if (epochs === null) {
      throw new UserError('how long shall the run be? Name its epochs with --epochs N', EXIT_USAGE);
    }
    const sentence = await askPeer(dir, { verb: 'extend', epochs }, io.signal, noPeerRuns);
    io.stdout.write(`${sentence}\n`);
  },
});
