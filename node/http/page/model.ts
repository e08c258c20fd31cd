/** What the page shows at one moment. */
import type { HistoryRow } from '../../history.js';
import type { StatusReport } from '../../status.js';

/** connecting: nothing was heard yet. starting: the peer answers but is not ready. lost: it answers no more. */
export type Link = 'connecting' | 'starting' | 'live' | 'lost';

export interface Model {
  link: Link;
  /** When the link was lost, ms since 1970; null while it is there. */
  lostAtMs: number | null;
  /** What the peer said last; null before that. */
  report: StatusReport | null;
  history: readonly HistoryRow[];
}

export type Member = StatusReport['peers'][number];

export type MemberLink = 'direct' | 'relayed' | 'none';

/** How a member is connected to this peer. */
export function linkOf({ address }: Member): MemberLink {
  if (address === null) return 'none';
  return address.includes('/p2p-circuit') ? 'relayed' : 'direct';
}
