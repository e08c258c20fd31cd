/** Codes and numbers in plain words. */
import type { RejectionCode } from '../../../protocol/errors.js';
import type { StatusReport } from '../../status.js';

type State = StatusReport['run']['state'];
type Reach = StatusReport['reachability']['state'];

/** Of each state: a label, and what it means. */
export const STATES: Readonly<Record<State, readonly [label: string, meaning: string]>> = {
  waiting: ['Waiting to begin', 'The run has a start time, and it has not come yet.'],
  training: ['Learning', 'Learning from the text on this machine.'],
  idle: ['Shared', 'The work of this epoch is done and shared; the next begins by itself.'],
  spent: ['Privacy budget spent', 'Learning here has ended to keep your privacy; sharing goes on.'],
  resting: ['Paused by you', 'This peer shares what others learn and learns nothing itself.'],
  paused: ['Held up', 'Something on this machine keeps it from learning; it goes on when it can.'],
  finished: ['Finished', 'All epochs are over. The peer still serves what was learned.'],
  stopped: ['Stopped', 'This peer has left the run.'],
  broken: ['Learning failed', 'Learning here has ended; sharing goes on.'],
};

/** States in which something is wrong. */
export const TROUBLED: ReadonlySet<State> = new Set(['paused', 'broken', 'stopped']);

export const REACH: Readonly<Record<Reach, readonly [label: string, meaning: string]>> = {
  unknown: ['Not known yet', 'Nobody has tried to reach this peer so far; that takes a moment.'],
  public: ['Reachable', 'Others can call this peer directly, from everywhere.'],
  local: ['Reachable nearby', 'Others on this network can call it; nobody outside has tried.'],
  'private-relayed': [
    'Through a relay',
    'Others cannot call it directly and come through a relay.',
  ],
  'private-unreachable': [
    'Not reachable',
    'Others cannot call this peer. It still calls them, and works with those that answer.',
  ],
};

const REJECTIONS: Readonly<Record<RejectionCode, string>> = {
  malformed: 'could not be read',
  oversize: 'too large',
  'wrong-version': 'from another version of the program',
  'wrong-run': 'of another run',
  'not-a-member': 'author is no member',
  'wrong-cohort': 'not its author’s turn',
  'bad-signature': 'signature does not match',
  'wrong-length': 'wrong length',
  'bad-scale': 'values out of bounds',
  'bad-steps': 'impossible amount of work',
  'bad-epoch': 'impossible epoch',
  'future-epoch': 'came before its time',
  sealed: 'came after the members had agreed',
  'no-quorum': 'too few members agree',
  'past-end': 'after the end of the run',
  'unknown-kind': 'of an unknown kind',
  'wrong-blob': 'content does not match its fingerprint',
  evicted: 'author was evicted',
  equivocation: 'two different ones for one epoch',
  capacity: 'no room for more',
};

/** What a rejection code means; a code of a newer peer as it is. */
export function rejectionInWords(code: string): string {
  return Object.hasOwn(REJECTIONS, code) ? REJECTIONS[code as RejectionCode] : code;
}

const PURPOSES: Readonly<Record<string, string>> = {
  gossip: 'Updates, passed from peer to peer',
  sync: 'Catching up on what was missed',
  blob: 'Large updates in pieces',
  introduce: 'Finding members',
  reach: 'Checking who can be reached',
  identify: 'Greeting other peers',
  ping: 'Checking connections',
  dht: 'Looking members up',
  relay: 'Passed on for others',
  other: 'Encryption and framing',
};

/** What bytes of a purpose were for. */
export function purposeInWords(purpose: string): string {
  return Object.hasOwn(PURPOSES, purpose) ? (PURPOSES[purpose] ?? purpose) : purpose;
}

/** Three digits or so: 0.532, 4.25, 37.4, 912. */
export function number(value: number, digits = 3): string {
  return value.toLocaleString('en', { maximumSignificantDigits: digits, useGrouping: true });
}

/** A loss in nats. */
export function loss(value: number | null): string {
  return value === null ? '–' : value.toFixed(3);
}

/** E.g. "1.25 MB", in powers of ten. */
export function bytes(value: number): string {
  if (value < 1_000) return `${value} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let [scaled, unit] = [value / 1_000, 0];
  while (scaled >= 999.5 && unit < units.length - 1) [scaled, unit] = [scaled / 1_000, unit + 1];
  return `${number(scaled)} ${units[unit] ?? ''}`;
}

/** E.g. "4 min 10 s", the two largest units. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400)
    return `${Math.floor(whole / 3_600)} h ${Math.floor((whole % 3_600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3_600)} h`;
}

/** E.g. "1 other" or "3 others". */
export function count(value: number, one: string, many: string): string {
  return `${value} ${value === 1 ? one : many}`;
}

/** The end of a peer id, by which people tell peers apart. */
export function shortId(peerId: string): string {
  return `…${peerId.slice(-6)}`;
}

/** The beginning of a hash. */
export function fingerprint(sha256: string): string {
  return (sha256.slice(0, 16).match(/.{1,4}/g) ?? []).join(' ');
}
