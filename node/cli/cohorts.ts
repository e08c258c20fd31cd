/** How many cohorts a run gets: as few as the uplink of its members allows. */
import { fitsInline } from '../../protocol/gossip.js';
import type { Run } from '../../protocol/manifest.js';
import { updateBytes } from '../../protocol/row-format.js';
import type { RunOptions } from './run-options.js';

/** What auto picks from: more cost loss (docs/BENCHMARKS.md, "Cohorts"). */
const CHOICES = [1, 2, 4] as const;

/** Times that a member passes an update on, in the mean: as `npm run bench:delivery` counts them. */
const COPIES_INLINE = 3.5;
const COPIES_ANNOUNCED = 1;

export interface Uplink {
  /** Members that are expected; null where nobody said. */
  members: number | null;
  /** What updates may take of a member's uplink, Mbit/s. */
  uplink: number;
}

/** Mbit/s of updates that each of `members` sends in `run` with so many cohorts. */
export function updateMbits(run: Run, members: number, cohorts: number): number {
  const bytes = updateBytes(run);
  const copies = fitsInline(bytes) ? COPIES_INLINE : COPIES_ANNOUNCED;
  const sent = (copies * (members - 1) * bytes) / cohorts;
  return (8 * sent) / (1000 * run.manifest.schedule.epochMs);
}

/**
 * The cohorts of `run`, whose schedule is decided but for them, and a line that says why; null where there is nothing to
 * say. `asked`: the options of the founder.
 */
export function chooseCohorts(
  run: Run,
  asked: Pick<RunOptions, 'cohorts' | 'allow' | 'inviteOnly'> & Uplink,
): { cohorts: number; line: string | null } {
  const { fold, schedule } = run.manifest;
  const listed = asked.allow.length > 0 && !asked.inviteOnly ? membersOf(run) : null;
  const members = asked.members ?? listed;
  const isFixed = asked.cohorts !== 'auto';
  if (members === null) return { cohorts: isFixed ? schedule.cohorts : 1, line: null };
  const rate = (cohorts: number): number => updateMbits(run, members, cohorts);
  const most = fold.mode === 'robust' ? 1 : schedule.epochsMax;
  const possible = CHOICES.filter((cohorts) => cohorts <= most);
  const fitting = possible.find((cohorts) => rate(cohorts) <= asked.uplink);
  const cohorts = isFixed ? schedule.cohorts : (fitting ?? possible.at(-1) ?? 1);
  return { cohorts, line: lineOf(cohorts, members, rate, asked.uplink) };
}

function membersOf({ manifest: { membership } }: Run): number | null {
  return membership.mode === 'open' ? null : membership.members.length;
}

function lineOf(
  cohorts: number,
  members: number,
  rate: (cohorts: number) => number,
  uplink: number,
): string {
  const turn = cohorts === 1 ? 'each epoch' : `one of ${cohorts} epochs`;
  const whole = cohorts === 1 ? '' : `, instead of ${mbits(rate(1))} in each`;
  const over =
    rate(cohorts) <= uplink
      ? ''
      : '; that is more than --uplink: longer epochs (--epoch-seconds), a lower --rank or more --cohorts make it less';
  return (
    `each of ${members} members sends an update in ${turn} (--cohorts ${cohorts}), about ${mbits(rate(cohorts))} of its ` +
    `uplink with what it passes on${whole}${over}\n`
  );
}

function mbits(rate: number): string {
  return `${rate < 10 ? rate.toPrecision(2) : Math.round(rate)} Mbit/s`;
}
