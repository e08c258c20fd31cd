/** Options of murmurate start. The types that the package publishes reach this file, so that it imports options alone. */
import { integer, option, real, text, type OptionValues } from '../config.js';
import { AUTHORS_MAX } from '../../protocol/limits.js';
import { peerOptions } from './peer-options.js';
import { runOptions } from './run-options.js';

export const startOptions = {
  ...peerOptions,
  ...runOptions,
  members: option(
    integer('N', 2, AUTHORS_MAX),
    null,
    'members that are expected, this one included, for --cohorts auto',
    'those of --allow; else everybody publishes in each epoch',
  ),
  uplink: option(
    real('MBIT', 0.001, 1e6),
    10,
    'Mbit/s of a member that its updates may take, for --cohorts auto',
  ),
  from: option(
    text('DIR'),
    null,
    'begin from the PEFT adapter in DIR, which decides rank, scale and layers',
    'a new adapter, which changes nothing',
  ),
} as const;
export type StartOptions = OptionValues<typeof startOptions>;
