/**
 * The bounded log of one peer: cuts a checkpoint when the clock says so, compares it with the others', and
 * adopts theirs where this peer came late or was away or parted for too long (docs/PROTOCOL.md, "Checkpoints").
 */
import { adapterLayout } from '../../protocol/adapter.js';
import {
  checkpointEpochAt,
  checkpointSpacing,
  initialCheckpoint,
  isSameCheckpoint,
  nextCheckpoint,
  type Checkpoint,
  type CheckpointStatement,
} from '../../protocol/checkpoint.js';
import { CheckpointTransfer, type CheckpointWish } from '../../protocol/checkpoint-transfer.js';
import type { EpochFold } from '../../protocol/epoch-fold.js';
import { CHECKPOINT_ANCESTORS_MAX } from '../../protocol/limits.js';
import type { UpdateLog } from '../../protocol/log.js';
import type { Run } from '../../protocol/manifest.js';
import { norm } from '../../protocol/residual.js';
import { PIECES_MAX } from '../../protocol/sync.js';
import type { Debt, StoredCheckpoint } from '../interfaces.js';
import { inPieces } from './pieces.js';
import { debtOf, shareOfWork } from './rebase.js';
import { PATIENCE_EPOCHS, Witnesses, type Poll } from './witnesses.js';

export interface HorizonComponents {
  run: Run;
  rows: EpochFold;
  log: UpdateLog;
  /** The slot of the clock. */
  epochNow: () => number;
  /** Epochs of the run as far as this peer knows. */
  epochsMax: () => number;
  /** This peer's id; null where nobody trains, as in a reader of files. */
  self: string | null;
  /** The log now goes on from `checkpoint`. `isSame`: it is the fold of what was dropped. */
  onCheckpoint(checkpoint: Checkpoint, change: { isSame: boolean }): void;
}

export class Horizon {
  readonly #c: HorizonComponents;
  readonly #witnesses = new Witnesses();
  readonly #patienceMs: number;
  /** Null at theta0 until somebody asks: a run that keeps everything never hashes it. */
  #checkpoint: Checkpoint | null = null;
  /** Own updates in the epochs that each checkpoint folded, newest first, as far back as the ancestors. */
  #own: number[] = [];
  #debt: Debt | null = null;
  #transfer: CheckpointTransfer | null = null;
  #poll: Poll = { kind: 'agreed' };
  #isCutting = false;

  constructor(components: HorizonComponents) {
    this.#c = components;
    const { schedule, fold } = components.run.manifest;
    const patience = Math.min(PATIENCE_EPOCHS, checkpointSpacing(fold) / 2);
    this.#patienceMs = patience * schedule.epochMs;
  }

  /** False in a run that keeps everything: then nothing here ever happens. */
  get isOn(): boolean {
    return this.#c.run.manifest.fold.horizonEpochs > 0;
  }

  get checkpoint(): Checkpoint {
    return (this.#checkpoint ??= initialCheckpoint(this.#c.run));
  }

  /** What the checkpoint covers: epochs before `epoch`. */
  get folded(): Pick<Checkpoint, 'epoch' | 'contributions'> {
    return this.#checkpoint ?? { epoch: 0, contributions: 0 };
  }

  /** What must be on disk to go on from here. */
  get stored(): StoredCheckpoint {
    return { checkpoint: this.checkpoint, own: this.#own, debt: this.#debt };
  }

  /** Goes on from what was on disk, before anything is in the log. `settledDebt`: see PeerState. */
  restore({ checkpoint, own, debt }: StoredCheckpoint, settledDebt: string | null): void {
    [this.#own, this.#debt] = [[...own], debt?.name === settledDebt ? null : debt];
    this.#become(checkpoint, { isSame: false });
  }

  /** Whether this peer would train from an adapter that is not the swarm's: it has to fetch that first. */
  get isBehind(): boolean {
    if (this.#poll.kind === 'adopt') return true;
    const isIdle = this.folded.contributions === 0 || this.#own[0] === 0;
    return isIdle && this.#poll.kind === 'open';
  }

  /** What is to be said of it; null when all is well. */
  get problem(): string | null {
    const poll = this.#poll;
    const { epoch } = this.folded;
    if (poll.kind === 'adopt') {
      const { pieces = 0, of = 0 } = this.#transfer?.progress ?? {};
      const isAlone = poll.donors.length === 1;
      return (
        `Fetching the adapter of epoch ${poll.statement.epoch} from the swarm, ${pieces} of ${of} pieces: the ` +
        `updates before it are not kept any more.${isAlone ? ' Only one member vouches for it.' : ''}`
      );
    }
    if (poll.kind === 'agreed') return null;
    const who = poll.others === 1 ? 'One member holds' : `${poll.others} members hold`;
    const rest =
      poll.kind === 'kept'
        ? 'This peer keeps its own, which most members share'
        : 'It is decided when more members have said which one they hold, or in a few epochs';
    return `${who} another checkpoint of epoch ${epoch} than this peer. ${rest}.`;
  }

  /** Folds what has fallen behind the horizon and drops it. Rejects when `signal` aborts. */
  async cut(signal: AbortSignal): Promise<void> {
    const { run, rows, log, self } = this.#c;
    if (this.#isCutting) return;
    this.#isCutting = true;
    try {
      while (this.folded.epoch < this.#epochDue()) {
        const from = this.checkpoint;
        const end = from.epoch + checkpointSpacing(run.manifest.fold);
        const before = idsBelow(log, from.epoch, end);
        const next = await inPieces(nextCheckpoint(run, from, log, rows), signal);
        // Another one was adopted meanwhile.
        if (this.#checkpoint !== from) continue;
        const epochs = self === null ? [] : log.epochsOf(self);
        const own = epochs.filter((epoch) => epoch < end).length;
        this.#own = [own, ...this.#own].slice(0, CHECKPOINT_ANCESTORS_MAX + 1);
        // What came for these epochs during the fold is as late as what comes after it.
        this.#become(next, { isSame: idsBelow(log, from.epoch, end) === before });
      }
    } finally {
      this.#isCutting = false;
    }
  }

  /** A member says what it goes on from. */
  note(peerId: string, statement: CheckpointStatement | null): void {
    if (statement !== null && this.isOn) this.#witnesses.note(peerId, statement);
  }

  forget(peerId: string): void {
    this.#witnesses.forget(peerId);
  }

  /** Looks at what the members say. Returns those who should be asked next. */
  poll(connected: readonly string[], nowMs: number): string[] {
    if (!this.isOn) return [];
    const { log, self } = this.#c;
    const own = this.checkpoint;
    const thirds = log.authors().filter((id) => id !== self && !connected.includes(id));
    this.#poll = this.#witnesses.poll({
      epoch: this.#epochDue(),
      own,
      connected,
      knowsThird: own.contributions > 0 && thirds.length > 0,
      nowMs,
      patienceMs: this.#patienceMs,
    });
    if (this.#poll.kind === 'open') return this.#poll.ask;
    if (this.#poll.kind !== 'adopt') {
      this.#transfer = null;
      return [];
    }
    const { statement, donors } = this.#poll;
    if (!this.#transfer || !isSameCheckpoint(this.#transfer.statement, statement)) {
      const { size } = adapterLayout(this.#c.run.manifest.adapter);
      this.#transfer = new CheckpointTransfer(statement, size);
    }
    return donors;
  }

  /** What to ask `peerId` for; null for nothing. `done` must be called when the session is over. */
  wishFor(peerId: string): { wish: CheckpointWish; transfer: CheckpointTransfer } | null {
    const transfer = this.#transfer;
    if (this.#poll.kind !== 'adopt' || !transfer || !this.#poll.donors.includes(peerId))
      return null;
    const wish = transfer.reserve(PIECES_MAX);
    return wish && { wish, transfer };
  }

  /** Epochs whose slots are in the checkpoint: no update for them counts any more. */
  isPast(epoch: number): boolean {
    return epoch < this.folded.epoch;
  }

  /** Adopts the checkpoint of `transfer` when it is whole and still the one that is wanted. */
  adopt(transfer: CheckpointTransfer): void {
    if (transfer !== this.#transfer) return;
    const next = transfer.complete();
    if (next === null) return;
    const own = this.checkpoint;
    if (own.epoch === next.epoch && own.contributions > 0) {
      const spacing = checkpointSpacing(this.#c.run.manifest.fold);
      const share = shareOfWork(own, next, this.#own, spacing);
      this.#debt = debtOf(this.#debt, own, next, share);
    }
    // The work of the epochs before is in the checkpoint, or in the debt.
    this.#own = next.ancestors.map(() => 0);
    this.#transfer = null;
    this.#poll = { kind: 'agreed' };
    this.#become(next, { isSame: false });
  }

  /**
   * A part of the debt with an L2 norm of at most `lengthMax`, for the caller to pay; null for none. A row much longer
   * than the others would be clipped. On disk the rest is from the next checkpoint on.
   */
  takeDebt(lengthMax: number): Debt | null {
    const debt = this.#debt;
    if (debt === null) return null;
    const length = norm(debt.vector);
    const part = length > lengthMax ? lengthMax / length : 1;
    const rest = debt.vector.map((value) => (1 - part) * value);
    // Another name for each rest: what is on disk is paid when the state names it.
    const [rebase = '', paid = '0'] = debt.name.split('/');
    this.#debt = part < 1 ? { name: `${rebase}/${Number(paid) + 1}`, vector: rest } : null;
    return { name: debt.name, vector: debt.vector.map((value) => part * value) };
  }

  #epochDue(): number {
    const { run, epochNow, epochsMax } = this.#c;
    return checkpointEpochAt(run.manifest.fold, epochNow(), epochsMax());
  }

  #become(checkpoint: Checkpoint, change: { isSame: boolean }): void {
    this.#checkpoint = checkpoint;
    this.#c.log.setFloor(checkpoint.epoch);
    this.#c.onCheckpoint(checkpoint, change);
  }
}

/** The ids of all updates from epoch `start` to before `end`, in the order of the fold. */
function idsBelow(log: UpdateLog, start: number, end: number): string {
  const ids: string[] = [];
  for (let epoch = start; epoch < end; epoch++) ids.push(...log.inEpoch(epoch).map(({ id }) => id));
  return ids.join(' ');
}
