/**
 * The life of a peer, epoch by epoch: fold, train, compress, persist, publish (docs/PROTOCOL.md, "One
 * epoch at one peer"). What goes out is on disk first, so that a crash at any instant sends the same
 * bytes again and never two different updates for one epoch.
 */
import { encodeAnnouncement, encodeUpdateMessage, isInline } from '../../protocol/gossip.js';
import { lastSlotOf } from '../../protocol/cohorts.js';
import type { Run } from '../../protocol/manifest.js';
import { isFiniteVector, norm } from '../../protocol/residual.js';
import type { Update } from '../../protocol/update.js';
import {
  MomentsLostError,
  TrainerDiedError,
  type Clock,
  type Identity,
  type Logger,
  type Moments,
  type PeerState,
  type PrivacyGuard,
  type Store,
  type Trainer,
  type TrainJob,
  type TrainProgress,
  type TrainResult,
} from '../interfaces.js';
import { asSentence } from './attention.js';
import { compressEpoch } from './compress.js';
import type { Journal } from './journal.js';
import { PersonalMeter, type PersonalLoss } from './personal.js';
import type { Publisher } from './publisher.js';
import type { Replica } from './replica.js';
import { Rest } from './rest.js';
import type { Sealing } from './sealing.js';
import { epochAt, trainingDeadlineMs } from './slots.js';
import type { RunState } from './snapshot.js';
import { Surveyor, type Suspicion } from './survey.js';

export interface EpochsComponents {
  publisher: Publisher;
  clock: Clock;
  store: Store;
  trainer: Trainer;
  /** Absent where training is not private. */
  privacy?: PrivacyGuard;
  logger: Logger;
  identity: Identity;
  replica: Replica;
  journal: Journal;
  sealing: Sealing;
  rest: Rest;
  /** Whether the personal adapter is measured now and then. */
  measuresPersonal: boolean;
}

/** Pause after the training process died before it is asked again; the trainer restarts it meanwhile. */
const TRAINER_PAUSE_MS = 1000;

/** A finished or waiting peer looks at the clock at least this often. */
const IDLE_MS_MAX = 10_000;

/** A skipped evaluation lowers the estimate of its time so far, so that one slow moment is forgotten. */
const EVALUATION_DECAY = 0.7;

/**
 * So many epochs in a row without one finite step end training. The second starts from the swarm's adapter
 * with fresh moments, the third from what the others made of it meanwhile; what fails there too is no accident.
 */
export const BROKEN_EPOCHS_MAX = 3;

/** Points of the held-out curve that are kept: `status` stays small in long runs. */
const HISTORY_MAX = 500;

/** The optimiser's moments go to disk every so many epochs: after a crash they are as old, which costs little. */
const MOMENTS_EPOCHS = 8;

/** What is remembered of a finished epoch: not the arrays, each as large as the adapter. */
export type TrainSummary = Omit<TrainResult, 'theta' | 'optimiser'>;

/** What the disk had when the peer started. */
export interface EpochsInit {
  state: PeerState;
  moments: Moments | null;
  /**
   * The slot of the clock when the process started: an earlier process, or one whose files these were copied from,
   * may have signed for any slot up to it. -1 for a key that nobody has used.
   */
  startEpoch: number;
}

export class Epochs {
  readonly #c: EpochsComponents;
  readonly #run: Run;
  readonly #signal: AbortSignal;
  readonly #surveyor: Surveyor;
  /** Null where it is switched off. */
  readonly #personal: PersonalMeter | null;
  #state: PeerState;
  #moments: Moments | null;
  /** The adapter from which an epoch starts, and what its steps lead to: two arrays for all epochs. */
  #theta: Float32Array | undefined;
  #trained: Float32Array | undefined;
  /** Epoch of the moments on disk. */
  #momentsEpoch = -1;
  /** An epoch after the start of this process for which another one signed an update with this key; null normally. */
  #copyEpoch: number | null = null;
  readonly #startEpoch: number;
  /** The last epoch that the state on disk knew of at the start, and those trained since. */
  readonly #loadedEpoch: number;
  readonly #trainedEpochs = new Set<number>();
  #runState: RunState = 'waiting';
  #progress: TrainProgress | null = null;
  #last: TrainSummary | null = null;
  /** Hash of the fold that was evaluated last, and how long that took. */
  #evaluated: string | null = null;
  #evaluationMs = 0;
  #problem: string | null = null;
  /** Why held-out text says nothing of the fold; null when it does. */
  #evaluationProblem: string | null = null;
  #skippedSteps = 0;
  /** Epochs in a row without one finite step, and why training has ended when there were too many. */
  #brokenEpochs = 0;
  #breakdown: string | null = null;
  #norm: { of: PeerState; value: number } | null = null;
  /**
   * No slot up to this one is used: an earlier process may have signed for it, or this one gave it up. What
   * this process signed is in the log, so a clock that is set back costs no slots beyond those.
   */
  #closedEpoch: number;

  constructor(
    components: EpochsComponents,
    { state, moments, startEpoch }: EpochsInit,
    signal: AbortSignal,
  ) {
    this.#c = components;
    this.#run = components.replica.run;
    this.#state = state;
    this.#moments = moments;
    this.#startEpoch = startEpoch;
    this.#loadedEpoch = state.epoch;
    this.#closedEpoch = Math.max(state.epoch, startEpoch);
    this.#signal = signal;
    this.#surveyor = new Surveyor(components);
    const { trainer, clock, measuresPersonal } = components;
    this.#personal = measuresPersonal ? new PersonalMeter(trainer, clock) : null;
  }

  /** Held-out loss after this peer's own steps; null before it was measured. */
  get personalLoss(): PersonalLoss | null {
    return this.#personal?.newest ?? null;
  }

  /** Authors whose updates harm the adapter, by this peer's held-out text. */
  get suspicions(): readonly Suspicion[] {
    return this.#surveyor.suspicions;
  }

  /** The last slot that may have been signed for by an earlier process; -1 for none. */
  get closedEpoch(): number {
    return this.#closedEpoch;
  }

  get runState(): RunState {
    return this.#runState;
  }

  get state(): Readonly<PeerState> {
    return this.#state;
  }

  get progress(): TrainProgress | null {
    return this.#progress;
  }

  /** The last finished epoch of this process; null before the first. */
  get last(): TrainSummary | null {
    return this.#last;
  }

  /** L2 norm of the residual; computed once for each residual, as `status` is asked for often. */
  residualNorm(): number {
    const state = this.#state;
    if (this.#norm?.of !== state) this.#norm = { of: state, value: norm(state.residual) };
    return this.#norm.value;
  }

  /** Why training does not go on, or the fold cannot be measured, in sentences. */
  get problems(): string[] {
    const problems = [this.#breakdown, this.#problem, this.#evaluationProblem];
    return problems.filter((problem) => problem !== null);
  }

  /** An epoch for which a copy of this peer's files, used elsewhere, has signed an update; null normally. */
  get copyEpoch(): number | null {
    return this.#copyEpoch;
  }

  /** Whether an update of this peer for `epoch` was made with this state: its steps are in `state.steps`. */
  knows(epoch: number): boolean {
    return epoch <= this.#loadedEpoch || this.#trainedEpochs.has(epoch);
  }

  /** An update by this peer came from the swarm that its log lacked. */
  onOwnFound(epoch: number): void {
    if (epoch > this.#startEpoch && !this.#trainedEpochs.has(epoch)) this.#copyEpoch ??= epoch;
  }

  /** Optimiser steps of this process that were left out because their loss or gradient was not finite. */
  get skippedSteps(): number {
    return this.#skippedSteps;
  }

  /** Runs until the signal aborts. */
  async run(): Promise<void> {
    while (!this.#signal.aborted) {
      try {
        await this.#turn();
      } catch (error) {
        if (isAborted(this.#signal)) break;
        if (Rest.isChange(error)) continue;
        const isTrainer = error instanceof TrainerDiedError || error instanceof MomentsLostError;
        if (!isTrainer) throw error;
        this.#runState = 'paused';
        this.#problem = `${asSentence(error.message)} It is being restarted; this epoch is trained again.`;
        this.#c.logger.warn({ error: error.message }, 'the training process died');
        await this.#c.clock.sleep(TRAINER_PAUSE_MS, this.#signal).catch(() => undefined);
      }
    }
    this.#runState = 'stopped';
    await this.#saveMoments(this.#state.epoch).catch(() => undefined);
  }

  /** Does what the moment asks for: one epoch of training, one evaluation, or one wait. */
  async #turn(): Promise<void> {
    const { schedule } = this.#run.manifest;
    this.#c.replica.retryDeferred();
    await this.#c.replica.settle(this.#signal);
    const epoch = epochAt(this.#run, this.#c.clock.now());
    if (epoch < 0) return this.#wait('waiting', schedule.startMs);
    if (epoch >= this.#c.replica.epochsMax) {
      await this.#evaluateFold(Infinity);
      await this.#evaluatePersonal(Infinity);
      return this.#wait('finished', Infinity);
    }
    const startMs = schedule.startMs + epoch * schedule.epochMs;
    const endMs = startMs + schedule.epochMs;
    if (this.#c.rest.isResting) return this.#wait('resting', endMs);
    if (this.#c.privacy?.report().stepsLeft === 0) {
      await this.#evaluateFold(endMs);
      return this.#wait('spent', endMs);
    }
    // Few steps scaled up to stepsRef are mostly noise, so a latecomer leaves this slot out.
    const isLate = this.#c.clock.now() > startMs + schedule.epochMs / 2;
    const { isBehind } = this.#c.sealing;
    const isOfUse = this.#lastSlot(this.#c.replica.epochsMax - 1) >= epoch;
    const isOpen = isOfUse && !this.#isClosed(epoch);
    if (!isLate && !isBehind && isOpen && this.#breakdown === null) {
      return this.#trainEpoch(epoch);
    }
    // Once the swarm's adapter is here there may be time left in this slot.
    if (isBehind) return this.#wait('idle', this.#c.clock.now() + schedule.epochMs / 16);
    await this.#evaluateFold(endMs);
    await this.#evaluatePersonal(endMs);
    await this.#survey(epoch, endMs);
    return this.#wait(this.#breakdown === null ? 'idle' : 'broken', endMs);
  }

  /** The newest slot of this peer up to `epoch`: its cohort publishes then. */
  #lastSlot(epoch: number): number {
    return lastSlotOf(this.#run, this.#c.identity.peerId, epoch);
  }

  /** Whether the slot's work is done, a second update for it could exist, or none of this author counts any more. */
  #isClosed(epoch: number): boolean {
    const { peerId } = this.#c.identity;
    const { log } = this.#c.replica;
    if (log.proofAgainst(peerId) || epoch < log.members.firstEpochOf(peerId)) return true;
    if (this.#copyEpoch !== null) return true;
    const isPast = epoch <= this.#closedEpoch || epoch < log.floor;
    return isPast || this.#trainedEpochs.has(epoch) || log.get(peerId, epoch) !== undefined;
  }

  /** Writes the moments of `epoch`, unless they are on disk. */
  async #saveMoments(epoch: number): Promise<void> {
    const moments = this.#moments;
    if (moments === null || epoch === this.#momentsEpoch) return;
    await this.#c.store.saveMoments(moments);
    this.#momentsEpoch = epoch;
  }

  async #trainEpoch(baseEpoch: number): Promise<void> {
    this.#runState = 'training';
    const { schedule, training, fold } = this.#run.manifest;
    this.#theta = this.#c.replica.theta(this.#theta);
    const theta = this.#theta;
    // What was noted lies where the result goes.
    this.#personal?.forget();
    const result = await this.#trainOrReload({
      epoch: baseEpoch,
      theta,
      into: this.#trained,
      optimiser: training.resetMoments ? null : await this.#takeMoments(),
      steps: schedule.stepsRef,
      deadlineMs: trainingDeadlineMs(this.#run, baseEpoch),
    });
    this.#skippedSteps += result.skippedSteps ?? 0;
    // A slow machine may end in a later slot: the update belongs there, with a lag that is its due.
    const now = epochAt(this.#run, this.#c.clock.now());
    const epoch = Math.max(baseEpoch, Math.min(now, this.#c.replica.epochsMax - 1));
    const last = this.#lastSlot(epoch);
    // A machine so slow that its steps end after its slot has the slot all the same: the next is K epochs away.
    const slot = last >= baseEpoch ? last : null;
    if (this.#isClosed(slot ?? epoch)) return;
    if (epoch - baseEpoch > fold.lagMax) {
      this.#problem =
        `Training that began in epoch ${baseEpoch} ended in epoch ${epoch}, more than ${fold.lagMax} epochs ` +
        'later: its result was thrown away. Did this machine sleep? Training goes on.';
      return;
    }
    this.#trained = result.theta;
    if (!isFiniteVector(result.theta)) {
      this.#onBroken(epoch);
      return;
    }
    this.#brokenEpochs = 0;
    const { replica, sealing, identity } = this.#c;
    const trained = { ...{ theta, result, baseEpoch, epoch, slot }, returned: sealing.returned };
    const next = compressEpoch({ replica, identity }, this.#state, trained);
    await this.#c.journal.persist(() => this.#c.store.saveState(next.state), this.#signal);
    this.#state = next.state;
    this.#trainedEpochs.add(epoch).add(slot ?? epoch);
    if (next.state.settledSeal !== null) this.#c.sealing.settle(next.state.settledSeal);
    this.#moments = result.optimiser;
    if (epoch >= this.#momentsEpoch + MOMENTS_EPOCHS) await this.#keepMoments(epoch);
    const { steps, tokens, loss, seconds, skippedSteps = 0 } = result;
    this.#last = { steps, tokens, loss, seconds, skippedSteps };
    this.#personal?.note({ theta: result.theta, epoch, seconds });
    this.#progress = null;
    this.#problem = next.update === null ? null : this.#c.replica.addOwn(next.update);
    if (this.#problem !== null) {
      this.#closedEpoch = Math.max(this.#closedEpoch, epoch);
      return;
    }
    if (next.update !== null) await this.#publish(next.update);
    this.#c.logger.info(
      { epoch, slot, loss: result.loss, steps: result.steps, seconds: result.seconds },
      'epoch trained',
    );
  }

  /** Writes the moments of `epoch`; where the trainer lost them meanwhile, those of a later epoch will be written. */
  async #keepMoments(epoch: number): Promise<void> {
    try {
      await this.#c.journal.persist(() => this.#saveMoments(epoch), this.#signal);
    } catch (error) {
      if (!(error instanceof MomentsLostError)) throw error;
      this.#c.logger.warn({ epoch, error: error.message }, 'moments not saved');
    }
  }

  #loadMoments(): Promise<Moments | null> {
    return this.#c.journal.persist(() => this.#c.store.loadMoments(), this.#signal);
  }

  /** Hands the moments over: the trainer gives new ones. Those that went with its process are again those on disk. */
  async #takeMoments(): Promise<Moments | null> {
    const moments = this.#moments;
    this.#moments = null;
    return moments === null || moments.isThere ? moments : this.#loadMoments();
  }

  /** As #train; where it fails, the moments are those on disk again. */
  #trainOrReload(job: TrainJob): Promise<TrainResult> {
    // Not awaited here: the job would stay in memory as long as training takes.
    return this.#train(job).catch(async (error: unknown) => {
      if (!this.#signal.aborted) this.#moments = await this.#loadMoments();
      throw error;
    });
  }

  /**
   * As Trainer.train; in private training at most as many steps as the budget leaves. They are counted, on disk,
   * before the first of them, and those for which there was no time are taken back.
   */
  async #train(job: TrainJob): Promise<TrainResult> {
    const { trainer, privacy, journal, rest } = this.#c;
    const onProgress = (progress: TrainProgress): void => void (this.#progress = progress);
    if (!privacy) return trainer.train(job, onProgress, rest.signal);
    const steps = Math.min(job.steps, privacy.report().stepsLeft);
    await journal.persist(() => privacy.charge(steps), this.#signal);
    const result = await trainer.train({ ...job, steps }, onProgress, rest.signal);
    await journal.persist(() => privacy.refund(steps - result.steps), this.#signal);
    return result;
  }

  /** An epoch in which nothing was finite counts for nothing, and some in a row end training. */
  #onBroken(epoch: number): void {
    this.#brokenEpochs++;
    this.#closedEpoch = Math.max(this.#closedEpoch, epoch);
    this.#moments = null;
    this.#progress = null;
    const what = `No optimiser step of epoch ${epoch} had a finite loss and gradient`;
    this.#problem =
      `${what}: its result was thrown away, and the next epoch starts from the swarm’s adapter with fresh ` +
      'optimiser moments.';
    if (this.#brokenEpochs === BROKEN_EPOCHS_MAX) {
      this.#breakdown =
        `${what}, like the ${BROKEN_EPOCHS_MAX - 1} epochs before, so this peer has stopped training. It goes on ` +
        'sharing what the others learn, and its adapter, which export writes, is the last good one. Start it ' +
        'again to try once more, or found a run with a lower --learning-rate.';
      this.#problem = null;
    }
    this.#c.logger.warn(
      { epoch, brokenEpochs: this.#brokenEpochs },
      this.#problem ?? this.#breakdown ?? what,
    );
  }

  async #publish(update: Update): Promise<void> {
    await this.#c.publisher.publish(
      isInline(update) ? encodeUpdateMessage(update) : encodeAnnouncement(update),
    );
  }

  /** Measures the fold on held-out text when it changed and `untilMs` leaves time for it. */
  async #evaluateFold(untilMs: number): Promise<void> {
    const { replica, trainer, clock, rest } = this.#c;
    const sha256 = replica.sha256();
    if (sha256 === this.#evaluated) return;
    const startMs = clock.now();
    if (startMs + this.#evaluationMs > untilMs) {
      this.#evaluationMs *= EVALUATION_DECAY;
      return;
    }
    if (this.#state.heldOutBase === null) {
      const base = await trainer.evaluate(replica.initialTheta(), rest.signal);
      this.#state = { ...this.#state, heldOutBase: finiteOrNull(base) };
    }
    const epoch = replica.log.newestEpoch;
    // Nothing is trained meanwhile.
    this.#theta = replica.theta(this.#theta);
    const loss = await trainer.evaluate(this.#theta, rest.signal);
    this.#evaluated = sha256;
    this.#evaluationMs = clock.now() - startMs;
    const isFinite = loss === null || Number.isFinite(loss);
    this.#evaluationProblem = isFinite ? null : notFinite(epoch);
    if (loss === null || !isFinite) return;
    const history = this.#state.heldOutHistory.filter((point) => point.epoch !== epoch);
    history.push({ epoch, loss });
    this.#state = { ...this.#state, heldOutHistory: history.slice(-HISTORY_MAX) };
  }

  /** Measures what the own steps of the last epoch made, where held-out text is there and time is left. */
  async #evaluatePersonal(untilMs: number): Promise<void> {
    if (this.#state.heldOutHistory.length === 0) return;
    await this.#personal?.measure(this.#evaluationMs, untilMs, this.#c.rest.signal);
  }

  /** Compares the fold with and without authors in what is left of `epoch`, which ends at `endMs`. */
  async #survey(epoch: number, endMs: number): Promise<void> {
    if (this.#state.heldOutHistory.length === 0) return;
    const { clock, rest } = this.#c;
    // Folding takes time too.
    const hasTime = (): boolean => clock.now() + 2 * this.#evaluationMs < endMs;
    await this.#surveyor.look(epoch, hasTime, rest.signal);
  }

  /** Until `untilMs` of the clock, or a while when that is far away. */
  async #wait(state: RunState, untilMs: number): Promise<void> {
    this.#runState = state;
    this.#progress = null;
    const delayMs = Math.max(0, untilMs - this.#c.clock.now());
    const { epochMs } = this.#run.manifest.schedule;
    await this.#c.clock.sleep(Math.min(delayMs, IDLE_MS_MAX, epochMs), this.#c.rest.signal);
  }
}

function notFinite(epoch: number): string {
  return (
    `The held-out loss of the swarm’s adapter of epoch ${epoch} is not finite: with it the model writes nothing ` +
    'sensible. It is measured again when updates change the adapter; if it stays so, found a run with a lower ' +
    '--learning-rate.'
  );
}

function finiteOrNull(loss: number | null): number | null {
  return Number.isFinite(loss) ? loss : null;
}

/** A call, because the compiler takes a flag that it has seen once for constant. */
function isAborted(signal: AbortSignal): boolean {
  return signal.aborted;
}
