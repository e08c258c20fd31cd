/** What a peer tells about itself at one moment: the part of `GET /status` that peer.ts knows. */
import type { PrivacyReport } from '../interfaces.js';
import type { RejectionCode } from '../../protocol/errors.js';
import type { Membership } from '../../protocol/manifest.js';

/**
 * waiting: before epoch 0. training: steps are running. idle: this epoch's work is done, waiting for
 * the next slot. spent: its privacy budget allows no further step, so that it shares but does not train. resting: told to
 * pause, with the same effect. paused: the disk or the training process fails, see attention. finished: past the
 * last epoch, still serving its log. stopped: stop() was called. broken: some epochs in a row gave nothing
 * finite, so that training has ended; the log is served all the same.
 */
export type RunState =
  | 'waiting'
  | 'training'
  | 'idle'
  | 'spent'
  | 'resting'
  | 'paused'
  | 'finished'
  | 'stopped'
  | 'broken';

export interface MemberSnapshot {
  peerId: string;
  /** Epoch of the newest update accepted from this author; null before the first. */
  lastUpdateEpoch: number | null;
  /** The newest epoch that is over for which it may have made an update; below 0 while there is none. */
  dueEpoch: number;
  updatesAccepted: number;
  /** Updates by this author, or messages passed on by this peer, that were not used: code -> count. */
  rejected: Partial<Record<RejectionCode, number>>;
  /** Its clock minus ours in ms, as last seen in a sync; null before. */
  clockOffsetMs: number | null;
  /** When its adapter was last seen to equal this peer's, in a sync, ms since 1970; null before. */
  agreedMs: number | null;
}

/** One state of the log and its fold. */
export interface AdapterSnapshot {
  /** Of the fold of the log as float32. */
  sha256: string;
  /** Newest epoch with an update in that log; -1 while there is none. */
  epoch: number;
  /** Updates in it, sealed ones included. */
  updates: number;
  /** The members have agreed on all updates of earlier epochs; 0 before the first seal. */
  sealedEpoch: number;
}

/** An update that does not count in its epoch, because it points against most of the others. */
export interface FilteredUpdate {
  epoch: number;
  author: string;
  /** Median of its cosines with the others, -1 to 1. */
  agreement: number;
}

export interface PeerSnapshot {
  runId: string;
  /** Slot of the clock: below 0 before the start, at most epochsMax. */
  epoch: number;
  /** Epochs of the run, by its manifest or an amendment. */
  epochsMax: number;
  /** A member publishes in every so many-th epoch. */
  cohorts: number;
  /** The next epoch, the present one included, for which this peer makes an update; null when none is left. */
  nextUpdateEpoch: number | null;
  state: RunState;
  training: {
    device: string;
    /** Optimiser steps over the life of this peer in this run. */
    step: number;
    tokens: number;
    /** Loss of the last step, after an epoch the mean of its steps; nats per trained token; null before. */
    loss: number | null;
    tokensPerSecond: number | null;
    /** Steps since the process started that were left out: their loss or gradient was not finite. */
    skippedSteps: number;
  };
  /** Null without noise. */
  privacy: PrivacyReport | null;
  /** The whole log's, or while a long fold runs what it was before. */
  adapter: AdapterSnapshot;
  heldOutLoss: {
    base: number | null;
    now: number | null;
    /** After the own steps of an epoch; null before it was measured in this process, and where it is not to be. */
    personal: number | null;
    /** The epoch of those steps. */
    personalEpoch: number | null;
    history: { epoch: number; loss: number }[];
  };
  /** Every author in the log and every connected member. */
  members: MemberSnapshot[];
  /** Updates that the filter left out of the epochs that are not sealed yet, the newest first, not all where there are many. */
  filtered: FilteredUpdate[];
  membership: {
    mode: Membership['mode'];
    /** Members that came by invitation. */
    admitted: number;
    /** Streams, messages and announcements of strangers that were turned away, since the process started. */
    refused: number;
  };
  /** Since the process started: own updates that went out, and those of others that came in and were new. */
  updates: { published: number; received: number };
  /** Bytes of the base model given to members since the process started; null where it is not shared. */
  modelBytesGiven: number | null;
  /** Members that the last update was handed to, who pass it on; null before the first. */
  lastRecipients: number | null;
  /** L2 norm of what compression holds back. */
  residualNorm: number;
  /** Authors whose updates harm the adapter, by this peer's held-out text alone. */
  suspects: string[];
  /** Sentences: what is wrong or awaited, and what happens next. Empty when all is well. */
  attention: string[];
}
