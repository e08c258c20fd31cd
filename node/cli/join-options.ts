/** Options of murmurate join. The types that the package publishes reach this file, so that it imports options alone. */
import { option, real, text, type OptionValues } from '../config.js';
import { peerOptions } from './peer-options.js';

/** Longest --timeout in seconds: a week. */
const TIMEOUT_SECONDS_MAX = 604_800;

export const joinOptions = {
  ...peerOptions,
  address: option(
    text('ADDRESS'),
    null,
    'ADDRESS or invite where none is an argument: for the config file and the environment',
  ),
  run: option(text('ID'), null, 'which run, by id or name, where ADDRESS knows several'),
  timeout: option(
    real('SECONDS', 0, TIMEOUT_SECONDS_MAX),
    null,
    'give up when ADDRESS has not answered for so long, or no member has given anything of the base model',
    'never',
  ),
} as const;

export type JoinOptions = OptionValues<typeof joinOptions>;
