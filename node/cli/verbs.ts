/** All verbs, in the order of --help: what the command line and docs/CLI.md are made of. */
import { bootstrapVerb } from './bootstrap.js';
import { chatVerb } from './chat.js';
import { compareVerb } from './compare.js';
import { completionVerb } from './completion.js';
import { configVerb } from './config.js';
import { dataVerb } from './data.js';
import { doctorVerb } from './doctor.js';
import { evalVerb } from './eval.js';
import { exportVerb } from './export.js';
import { extendVerb } from './extend.js';
import { generateVerb } from './generate.js';
import { historyVerb } from './history.js';
import { initVerb } from './init.js';
import { inviteVerb } from './invite.js';
import { joinVerb } from './join.js';
import { leaveVerb } from './leave.js';
import { pauseVerb } from './pause.js';
import { peerIdVerb } from './peer-id.js';
import { personalVerb } from './personal.js';
import { resumeVerb } from './resume.js';
import { serveVerb } from './serve.js';
import { simulateVerb } from './simulate.js';
import { startVerb } from './start.js';
import { statusVerb } from './status.js';
import { swarmKeyVerb } from './swarm-key.js';
import { whatLeavesVerb } from './what-leaves.js';
import type { Verb } from './verb.js';

export const VERBS: readonly Verb[] = [
  initVerb,
  startVerb,
  joinVerb,
  bootstrapVerb,
  configVerb,
  doctorVerb,
  dataVerb,
  inviteVerb,
  swarmKeyVerb,
  peerIdVerb,
  statusVerb,
  whatLeavesVerb,
  pauseVerb,
  resumeVerb,
  leaveVerb,
  extendVerb,
  historyVerb,
  personalVerb,
  exportVerb,
  generateVerb,
  chatVerb,
  serveVerb,
  evalVerb,
  compareVerb,
  simulateVerb,
  completionVerb,
];
