/** murmurate invite: the founder lets one more peer into its closed run. */
import { integer, option, real } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { readRun } from '../home.js';
import { DataDirectory } from '../store/directory.js';
import { EPOCHS_MAX } from '../../protocol/limits.js';
import { askPeer, noPeerRuns } from './control.js';
import { directoryOption } from './peer-options.js';
import { defineVerb } from './verb.js';

/** An invite is good for a week where nothing else is said. */
const HOURS = 168;
const HOURS_MAX = 8_760;

export const inviteVerb = defineVerb({
  name: 'invite',
  summary: 'Print an invite for one peer; only the founder can, while its peer runs.',
  args: [],
  options: {
    ...directoryOption,
    hours: option(real('HOURS', 0, HOURS_MAX), null, 'it can be used for so long', String(HOURS)),
    expiresEpochs: option(
      integer('N', 0, EPOCHS_MAX),
      null,
      'it can be used in this epoch and N more, instead of --hours',
    ),
  },
  example: `
$ murmurate invite --hours 24
murmurate1L2d8vTq9...
for one peer, which joins with: murmurate join INVITE; keep it secret, whoever has it can take that place`,
  run: async ({ options: { dir, hours, expiresEpochs }, io }) => {
    if (hours !== null && expiresEpochs !== null) {
      throw new UserError(
        '--hours and --expires-epochs say the same; give one of them',
        EXIT_USAGE,
      );
    }
    const run = await readRun(new DataDirectory(dir));
    const epochMs = run?.manifest.schedule.epochMs ?? 1;
    const epochs = expiresEpochs ?? Math.ceil(((hours ?? HOURS) * 3_600_000) / epochMs);
    const request = { verb: 'invite', epochs: Math.min(epochs, EPOCHS_MAX) };
    const invite = await askPeer(dir, request, io.signal, noPeerRuns);
    io.stdout.write(`${invite}\n`);
    io.stderr.write(
      'for one peer, which joins with: murmurate join INVITE; keep it secret, whoever has it can take that place\n',
    );
  },
});
