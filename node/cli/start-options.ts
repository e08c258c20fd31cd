/** Options of murmurate start. The types that the package publishes reach this file, so that it imports options alone. */
import { option, text, type OptionValues } from '../config.js';
import { peerOptions } from './peer-options.js';
import { runOptions } from './run-options.js';

export const startOptions = {
  ...peerOptions,
  ...runOptions,
  from: option(
    text('DIR'),
    null,
    'begin from the PEFT adapter in DIR, which decides rank, scale and layers',
    'a new adapter, which changes nothing',
  ),
} as const;
export type StartOptions = OptionValues<typeof startOptions>;
