/**
 * Notices that members end each connection a moment after it was made. Each keeps one connection for one peer id, so
 * this is what the second of two processes with one key sees of a run.
 */
import type { Connection, Libp2p } from '@libp2p/interface';

/** A connection that ends before this age, in ms, was not wanted: who keeps one of several decides within 6 s. */
const SHORT_MS = 10_000;

/** So many in a row are no accident: a member that restarts, or two that dial each other, account for one or two. */
export const SHORT_MAX = 5;

export class ShortConnections {
  readonly #node: Libp2p;
  readonly #isMember: (peerId: string) => boolean;
  #count = 0;

  constructor(node: Libp2p, isMember: (peerId: string) => boolean) {
    this.#node = node;
    this.#isMember = isMember;
  }

  start(): void {
    this.#node.addEventListener('connection:close', this.#onClose);
  }

  stop(): void {
    this.#node.removeEventListener('connection:close', this.#onClose);
  }

  /** A sentence for `status` while none of the members, of whom `members` are connected, keeps a connection. */
  attention(members: number): string[] {
    if (members > 0 || this.#count < SHORT_MAX) return [];
    return [
      `members end each connection a moment after it is made, ${this.#count} times in a row, as they keep one for each ` +
        'peer id: does a copy of the data directory run on a second machine? Stop one of the two; if there is none, ' +
        'the members have no room, and this peer keeps trying',
    ];
  }

  readonly #onClose = ({ detail }: CustomEvent<Connection>): void => {
    const { remotePeer, direction, timeline } = detail;
    if (direction !== 'outbound' || !this.#isMember(remotePeer.toString())) return;
    const isLeft = this.#node.getConnections(remotePeer).some(({ status }) => status === 'open');
    if (isLeft) return;
    this.#count = Date.now() - timeline.open < SHORT_MS ? this.#count + 1 : 0;
  };
}
