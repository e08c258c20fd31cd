/** All session scripts: what each remote can make this peer do and keep, frame after frame. */
import type { SessionScript } from './cost.js';
import { framing } from './framing-script.js';
import { STREAM_SCRIPTS } from './stream-scripts.js';
import { SYNC_SCRIPTS } from './sync-scripts.js';

export const SCRIPTS: Readonly<Record<string, SessionScript>> = {
  ...SYNC_SCRIPTS,
  ...STREAM_SCRIPTS,
  framing,
};
