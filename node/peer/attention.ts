/** The sentences of `attention`: what is wrong or awaited, and what happens next. Empty when all is well. */
import type { Run } from '../../protocol/manifest.js';
import type { PrivacyReport, TrainResult } from '../interfaces.js';
import type { Suspicion } from './survey.js';

export interface AttentionFacts {
  run: Run;
  nowMs: number;
  /** The slot of the clock: where the run is over, beyond its end. */
  slot: number;
  /** The same, but no more than `epochsMax`. */
  epoch: number;
  /** Epochs of the run, by its manifest or an amendment. */
  epochsMax: number;
  isCatchingUp: boolean;
  /** Whether it was told to pause. */
  isResting: boolean;
  connectedCount: number;
  /** Publishing handed update after update, or one again and again, to nobody. */
  isUnheard: boolean;
  /** Remote clocks minus ours, in ms. */
  clockOffsetsMs: readonly number[];
  storeProblem: string | null;
  trainingProblems: readonly string[];
  /** What keeps the members from agreeing on a seal, or this peer from following it; null when nothing does. */
  sealProblem: string | null;
  /** The last epoch that was trained; null before the first. */
  last: Pick<TrainResult, 'steps' | 'skippedSteps'> | null;
  /** Null without noise. */
  privacy: PrivacyReport | null;
  /** The last slot that an earlier process may have used; -1 for none. */
  closedEpoch: number;
  /** Whether this peer itself belongs to the run, by what it knows. */
  isMember: boolean;
  /** The epoch from which on this very peer is evicted; null normally. */
  equivocatedEpoch: number | null;
  /** An epoch for which a copy of this peer's data directory has signed an update elsewhere; null normally. */
  copyEpoch: number | null;
  /** Authors whose updates harm the adapter, by this peer's held-out text. */
  suspicions: readonly Suspicion[];
}

export function attention(facts: AttentionFacts): string[] {
  const { run, nowMs, epoch } = facts;
  const { startMs, epochMs } = run.manifest.schedule;
  const sentences = keySentences(facts);
  if (!facts.isMember) {
    sentences.push(
      `This peer is no member any more: its invite was used by another peer too, and then neither counts. Ask ` +
        `the founder ${run.manifest.founder} for a new invite, and join with it on the same --dir.`,
    );
  }
  if (epoch >= 0 && facts.closedEpoch > facts.slot) {
    sentences.push(
      `This peer may have signed updates up to epoch ${facts.closedEpoch}, but by its clock this is epoch ` +
        `${facts.slot}: the clock was set back. It trains again from epoch ${facts.closedEpoch + 1} on, or at ` +
        'once when you join with an empty data directory under a new id.',
    );
  }
  if (facts.storeProblem !== null) sentences.push(facts.storeProblem);
  sentences.push(...facts.trainingProblems);
  if (facts.sealProblem !== null) sentences.push(facts.sealProblem);
  sentences.push(...stepSentences(facts));
  const isSpent = facts.privacy?.stepsLeft === 0;
  if (facts.privacy && isSpent && epoch < facts.epochsMax) {
    sentences.push(spentInWords(facts.privacy));
  }
  if (facts.isResting && epoch < facts.epochsMax) {
    sentences.push(
      'Training was paused: this peer goes on sharing what the others learn, until murmurate resume.',
    );
  }
  if (facts.isCatchingUp && !facts.isResting) {
    sentences.push('Fetching what the swarm has learned so far; training begins when it is here.');
  }
  if (epoch < 0) {
    sentences.push(`The run starts in ${seconds(startMs - nowMs)}; training begins then.`);
  }
  if (facts.connectedCount === 0 && epoch < facts.epochsMax) {
    sentences.push(
      `No other member of this run is connected: this peer ${facts.isResting || isSpent ? '' : 'trains alone, '}` +
        'keeps trying to reach others, and merges its work when it meets them.',
    );
  }
  if (facts.isUnheard && facts.connectedCount > 0) {
    sentences.push(
      `Your updates reach nobody: gossip handed the last one to none of the ${facts.connectedCount} connected ` +
        'members. It is published again, and they fetch it when they compare logs; if this stays, start again.',
    );
  }
  sentences.push(...facts.suspicions.map(suspicionSentence));
  const offsetMs = median(facts.clockOffsetsMs);
  if (Math.abs(offsetMs) > epochMs / 2) {
    const isAlone = facts.clockOffsetsMs.length === 1;
    sentences.push(
      `This machine's clock is ${seconds(Math.abs(offsetMs))} ${offsetMs > 0 ? 'behind' : 'ahead of'} ` +
        `${isAlone ? 'that of its only peer' : 'the median of its peers'}, more than half an epoch ` +
        `(${seconds(epochMs / 2)}): ${isAlone ? 'one of them is wrong and its' : 'its'} updates land in the ` +
        `wrong epoch. Switch on time synchronisation (NTP)${isAlone ? ' on both' : ''}.`,
    );
  }
  return sentences;
}

/** An error's message as a sentence of a list: a capital at the start, a full stop at the end. */
export function asSentence(message: string): string {
  const sentence = message.charAt(0).toUpperCase() + message.slice(1);
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}

/** What is wrong with the use of this peer's key. */
function keySentences(facts: AttentionFacts): string[] {
  const sentences: string[] = [];
  if (facts.equivocatedEpoch !== null) {
    sentences.push(
      `The swarm evicted this peer id from epoch ${facts.equivocatedEpoch} on: two different updates or seals were ` +
        'signed with its key for that epoch. What it sent before counts. Was the data directory copied to a second ' +
        'machine? Stop one of the two, and join with an empty data directory to go on under a new id.',
    );
  } else if (facts.copyEpoch !== null) {
    sentences.push(
      `Another process signs updates with this peer's key: one for epoch ${facts.copyEpoch} came from the swarm. Does a ` +
        'copy of the data directory run on a second machine? This peer has stopped training, so that nothing is ' +
        'lost; stop one of the two, then start the other again.',
    );
  }
  return sentences;
}

function stepSentences({ last, run, privacy }: AttentionFacts): string[] {
  const sentences: string[] = [];
  const { stepsRef } = run.manifest.schedule;
  const skipped = last?.skippedSteps ?? 0;
  if (skipped > 0) {
    sentences.push(
      `${skipped} optimiser steps of the last epoch were left out because their loss or gradient was ` +
        'not finite; if it goes on, found a run with a lower learning rate.',
    );
  }
  if (last !== null && 2 * last.steps < stepsRef && privacy?.stepsLeft !== 0) {
    sentences.push(
      `This machine made ${last.steps} of ${stepsRef} optimiser steps in the last epoch, so its work ` +
        'counts less: free it from other tasks, or found the next run with longer epochs.',
    );
  }
  return sentences;
}

function suspicionSentence(suspicion: Suspicion): string {
  const { author, fromEpoch, toEpoch, withAll, without, score } = suspicion;
  return (
    `By this peer's held-out text, ${author} harms the adapter: without its updates of epochs ${fromEpoch} to ` +
    `${toEpoch} the loss would have been ${without.toFixed(4)} nats and not ${withAll.toFixed(4)}, ` +
    `${score.toFixed(1)} times the usual difference between members. It may lie, or have other text than you. ` +
    'Nothing was done about it: ask the other members what theirs say, and found the next run without it (--allow).'
  );
}

function spentInWords(report: PrivacyReport): string {
  const { epsilon, epsilonMax, delta, steps, noise, sampleRate } = report;
  return (
    `The privacy budget is spent: epsilon ${epsilon.toFixed(3)} of ${epsilonMax} at delta ${delta} after ${steps} steps ` +
    `(noise ${noise}, sampling rate ${sampleRate.toPrecision(3)}), and one step more would pass it. This peer trains ` +
    'no more; it goes on sharing and folding what the others learn. To train on, start it again with a larger ' +
    '--dp-epsilon, which reveals more.'
  );
}

/** Of an even number of values the middle one nearer to 0: one wrong clock among two accuses nobody else. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const upper = sorted[sorted.length >>> 1] ?? 0;
  const lower = sorted[(sorted.length - 1) >>> 1] ?? 0;
  return Math.abs(lower) < Math.abs(upper) ? lower : upper;
}

function seconds(ms: number): string {
  return ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`;
}
