/** All decoders of foreign bytes. */
import { dataTargets } from './data-targets.js';
import { httpTargets } from './http-targets.js';
import { hubTargets } from './hub-targets.js';
import { membershipTargets } from './membership-targets.js';
import { modelTargets } from './model-targets.js';
import { netTargets } from './net-targets.js';
import type { FuzzTargets } from './oracle.js';
import { protocolTargets } from './protocol-targets.js';
import { storeTargets } from './store-targets.js';
import { streamTargets } from './stream-targets.js';
import { syncTargets } from './sync-targets.js';

export const TARGETS: FuzzTargets = {
  ...protocolTargets,
  ...membershipTargets,
  ...syncTargets,
  ...netTargets,
  ...streamTargets,
  ...modelTargets,
  ...dataTargets,
  ...hubTargets,
  ...storeTargets,
  ...httpTargets,
};
