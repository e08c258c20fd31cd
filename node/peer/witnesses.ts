/**
 * Which checkpoint the members hold, by what each of them says of its own: a poll. The largest group wins;
 * of equal ones that with more contributions, then with the smaller digest (docs/PROTOCOL.md, "Rebase").
 */
import { checkpointName, type CheckpointStatement } from '../../protocol/checkpoint.js';

/** A poll without a majority, or with silent members, is decided after so many epochs, or half a spacing. */
export const PATIENCE_EPOCHS = 3;

/** One checkpoint must have so many members behind it; one suffices only where no second is known. */
const WITNESSES_MIN = 2;

/** What the members say, with what follows from it. */
export type Poll =
  /** Nobody states another checkpoint for the epoch. */
  | { kind: 'agreed' }
  /** There are others, but this peer keeps its own. */
  | { kind: 'kept'; others: number }
  /** Not decided yet; the members in `ask` have not stated one for the epoch. */
  | { kind: 'open'; ask: string[]; others: number }
  /** Another one is to be adopted, which the members in `donors` hold. */
  | { kind: 'adopt'; statement: CheckpointStatement; donors: string[] };

export interface PollFacts {
  /** The epoch whose checkpoints are compared: that of the clock. */
  epoch: number;
  own: CheckpointStatement;
  /** Members that are connected. */
  connected: readonly string[];
  /** Whether the own log has updates of a third peer. */
  knowsThird: boolean;
  nowMs: number;
  patienceMs: number;
}

interface Group {
  statement: CheckpointStatement;
  donors: string[];
  votes: number;
}

export class Witnesses {
  /** Bounded by the connected members: forget() and poll() drop all others. */
  readonly #statements = new Map<string, CheckpointStatement>();
  /** Since when members have stated another checkpoint than the own one, `#own`; null while all agree. */
  #sinceMs: number | null = null;
  #own = '';

  note(peerId: string, statement: CheckpointStatement): void {
    this.#statements.set(peerId, statement);
  }

  forget(peerId: string): void {
    this.#statements.delete(peerId);
  }

  poll(facts: PollFacts): Poll {
    const { epoch, own, connected, nowMs } = facts;
    // After a cut all must speak anew: whoever does so first must not decide alone.
    if (checkpointName(own) !== this.#own) this.#sinceMs = null;
    this.#own = checkpointName(own);
    const isConnected = new Set(connected);
    for (const id of this.#statements.keys()) if (!isConnected.has(id)) this.forget(id);
    const groups = this.#groups(facts);
    const others = groups.filter(({ statement }) => !isSame(statement, own));
    const ask = connected.filter((id) => this.#statements.get(id)?.epoch !== epoch);
    const differing = others.reduce((sum, { donors }) => sum + donors.length, 0);
    if (differing === 0) {
      // At a cut nobody has spoken yet for a moment: that is no agreement.
      if (ask.length < connected.length || connected.length === 0) this.#sinceMs = null;
      return { kind: 'agreed' };
    }
    this.#sinceMs ??= nowMs;
    const isLate = nowMs - this.#sinceMs >= facts.patienceMs;
    const [best] = groups;
    const votes = groups.reduce((sum, group) => sum + group.votes, 0);
    if (!best || (!isLate && (ask.length > 0 || 2 * best.votes <= votes))) {
      return { kind: 'open', ask, others: differing };
    }
    if (isSame(best.statement, own)) return { kind: 'kept', others: differing };
    if (best.donors.length < WITNESSES_MIN) {
      const isOnlyOne = votes - (this.#isVoter(facts) ? 1 : 0) === 1 && !facts.knowsThird;
      if (!isOnlyOne || !isLate) return { kind: 'open', ask, others: differing };
    }
    return { kind: 'adopt', statement: best.statement, donors: best.donors };
  }

  /** By their rank. An empty checkpoint is that of a newcomer, who has nothing to say. */
  #groups(facts: PollFacts): Group[] {
    const { epoch, own } = facts;
    const groups = new Map<string, Group>();
    const add = (statement: CheckpointStatement): Group => {
      const name = checkpointName(statement);
      const group = groups.get(name) ?? { statement, donors: [], votes: 0 };
      groups.set(name, group);
      group.votes += 1;
      return group;
    };
    if (this.#isVoter(facts)) add(own);
    for (const [id, statement] of this.#statements) {
      if (statement.epoch === epoch && statement.contributions > 0) add(statement).donors.push(id);
    }
    return [...groups.values()].sort(byRank);
  }

  #isVoter({ own, epoch }: PollFacts): boolean {
    return own.epoch === epoch && own.contributions > 0;
  }
}

function isSame(a: CheckpointStatement, b: CheckpointStatement): boolean {
  return checkpointName(a) === checkpointName(b);
}

function byRank(a: Group, b: Group): number {
  if (a.votes !== b.votes) return b.votes - a.votes;
  const [x, y] = [a.statement, b.statement];
  if (x.contributions !== y.contributions) return y.contributions - x.contributions;
  return `${x.digest}${x.thetaSha256}` < `${y.digest}${y.thetaSha256}` ? -1 : 1;
}
