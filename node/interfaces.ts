/**
 * What a peer needs from the world, and nothing more. The real implementations live in net/, store/
 * and train/; the simulator in node/sim implements the same interfaces under virtual time.
 */
import type { BlobSource, Chunk } from '../protocol/blob.js';
import type { Verdict } from '../protocol/errors.js';

/** Wall-clock and timers; the only source of time for peer.ts. */
export interface Clock {
  /** Milliseconds since 1970-01-01 UTC. */
  now(): number;
  /** Resolves after `delayMs` (never negative), rejects with `signal.reason` when aborted. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

/** Structured log. Fields never hold private text, keys or prompts. */
export interface Logger {
  debug(fields: Record<string, unknown>, message: string): void;
  info(fields: Record<string, unknown>, message: string): void;
  warn(fields: Record<string, unknown>, message: string): void;
  error(fields: Record<string, unknown>, message: string): void;
}

/** The peer's identity: an Ed25519 key whose public half is the peer id. */
export interface Identity {
  /** libp2p peer id, base58 ("12D3KooW..."). */
  readonly peerId: string;
  /** Ed25519 signature (64 bytes) over `bytes`. */
  sign(bytes: Uint8Array): Uint8Array;
}

/** A bidirectional stream of frames (each at most SYNC_FRAME_BYTES_MAX) to one connected peer. */
export interface FrameStream {
  /** Resolves when the frame is handed over; waits while the remote does not read. */
  send(frame: Uint8Array): Promise<void>;
  /** Ends when the remote closes its side; throws on reset, oversize or deadline. */
  readonly frames: AsyncIterable<Uint8Array>;
  /** Says that no more frames follow; reading goes on. */
  close(): Promise<void>;
  /** Drops the stream at once. */
  abort(error: Error): void;
}

export interface Connection {
  peerId: string;
  /** Multiaddr of the remote end. */
  address: string;
  direction: 'inbound' | 'outbound';
  /** Last measured round trip in ms; null before the first measurement. */
  latencyMs: number | null;
}

/** What a stream is for: anti-entropy, or a large update in chunks. */
export type StreamKind = 'sync' | 'blob';

/**
 * Whether others can dial this peer: not known yet; from everywhere; from its own network, and nobody outside
 * has tried; not, but through a relay; not at all.
 */
export type ReachState = 'unknown' | 'public' | 'local' | 'private-relayed' | 'private-unreachable';

export interface Reachability {
  state: ReachState;
  /** Who found that out and how, as part of a sentence. */
  evidence: string;
  /** Peer ids of the relays through which this peer is reached. */
  relays: string[];
  /** What to do about it, as part of a sentence; null where nothing is to be done. */
  fix: string | null;
}

/** Gossip and streams among the peers of one run. */
export interface Transport {
  start(handlers: TransportHandlers): Promise<void>;
  /** Leaves the run: unsubscribes and ends the streams that were opened through this transport. */
  stop(): Promise<void>;
  /**
   * Broadcasts to the run. Resolves with the number of peers that it was handed to (0 when alone).
   * Rejects with MessageTooLargeError beyond GOSSIP_BYTES_MAX: nothing was sent.
   */
  publish(message: Uint8Array): Promise<number>;
  /** Opens a stream. Rejects when the peer cannot be reached before `signal` aborts. */
  open(kind: StreamKind, peerId: string, signal: AbortSignal): Promise<FrameStream>;
  /** Live connections to members of this run. */
  connections(): Connection[];
}

/** Thrown by publish for a message over GOSSIP_BYTES_MAX. */
export class MessageTooLargeError extends Error {
  override readonly name = 'MessageTooLargeError';

  constructor(
    readonly sizeBytes: number,
    readonly bytesMax: number,
  ) {
    super(`a gossip message of ${sizeBytes} bytes is over the bound of ${bytesMax}`);
  }
}

export interface TransportHandlers {
  /**
   * Called for each gossip message before it is passed on, from the peer `from` that forwarded it.
   * Must not throw. 'accept' forwards the message, 'ignore' and 'defer' drop it, 'reject' drops it and
   * lowers the sender's score.
   */
  onGossip(message: Uint8Array, from: string): Verdict;
  /** A peer opened a stream. The handler ends the stream. */
  onStream(kind: StreamKind, stream: FrameStream, from: string): Promise<void>;
  /** A member of the run connected (its gossip stream is usable). */
  onConnect(peerId: string): void;
  onDisconnect(peerId: string): void;
  /**
   * Whether the run admits `peerId`: strangers get no stream, and their messages are dropped unread. What changes is
   * noticed within a second.
   */
  isMember(peerId: string): boolean;
  /** A stranger asked for a stream, or sent a message, in vain. */
  onStranger?(): void;
}

/** AdamW moments over the flat adapter, in this process. */
export interface OptimiserState {
  /** Steps taken so far, for bias correction. */
  step: number;
  /** First and second moments, [adapterSize] float32 each. */
  m: Float32Array;
  v: Float32Array;
}

/**
 * AdamW moments, kept across epochs and across restarts, wherever they lie: together they are twice as large as the
 * adapter, so that whoever holds them hands them on in pieces.
 */
export interface Moments {
  /** As in OptimiserState. */
  readonly step: number;
  /** Coordinates of the adapter. */
  readonly size: number;
  /** False once whatever held them is gone; they may also go while their pieces are read. */
  readonly isThere: boolean;
  /**
   * All of m and then all of v, in order; a piece holds until the next one is asked for. Rejects with MomentsLostError
   * where they are gone.
   */
  pieces(): AsyncIterable<Float32Array>;
}

/** Thrown (as a rejection) where moments went with what held them: those on disk are the newest that are left. */
export class MomentsLostError extends Error {
  override readonly name = 'MomentsLostError';
}

export interface TrainJob {
  epoch: number;
  /** The adapter to start from, flat in manifest order: [adapterSize] float32. Not modified. */
  theta: Float32Array;
  /** Null starts with zero moments. The trainer's own to take: they may be gone after that. */
  optimiser: Moments | null;
  /** Where the trained adapter may be written; an array of [adapterSize] float32. Default: a new one. */
  into?: Float32Array | undefined;
  /** Steps wanted: the manifest's stepsRef. */
  steps: number;
  /** Stop before this clock time (ms since 1970), after at least one step. */
  deadlineMs: number;
}

export interface TrainResult {
  /** The adapter after the local steps: [adapterSize] float32. NaN when no step was finite: throw it away. */
  theta: Float32Array;
  optimiser: Moments;
  /** Steps taken: 1 to job.steps. */
  steps: number;
  /** Tokens that went through the model. */
  tokens: number;
  /** Mean training loss over the steps, nats per trained token. */
  loss: number;
  /** Time in the steps, in seconds. */
  seconds: number;
  /** Steps left out because their loss or gradient was not finite; not counted in `steps`. */
  skippedSteps?: number;
}

/** Progress inside an epoch, for `status` and the progress bar. */
export interface TrainProgress {
  epoch: number;
  step: number;
  steps: number;
  /** Loss of the last step, nats per trained token. */
  loss: number;
}

/** Thrown (as a rejection) when the training process died; the trainer has begun to restart it. */
export class TrainerDiedError extends Error {
  override readonly name = 'TrainerDiedError';
}

/** Runs optimiser steps on private data. Calls never overlap: peer.ts waits for each. */
export interface Trainer {
  /** What the steps run on, e.g. "cpu (2 threads)". */
  readonly device: string;
  train(
    job: TrainJob,
    onProgress: (progress: TrainProgress) => void,
    signal: AbortSignal,
  ): Promise<TrainResult>;
  /** Mean loss on this peer's held-out text, nats per token, NaN when it is not finite; null when there is no such text. */
  evaluate(theta: Float32Array, signal: AbortSignal): Promise<number | null>;
}

/** What private training has cost so far (docs/PRIVACY.md). */
export interface PrivacyReport {
  /** Spent, of what may be spent, at `delta`. */
  epsilon: number;
  epsilonMax: number;
  delta: number;
  /** Standard deviation of the noise as a multiple of `clip`, and the norm that each record's gradient is cut to. */
  noise: number;
  clip: number;
  /** Probability of a record to be in a step. */
  sampleRate: number;
  /** Steps that are counted, over the life of this peer. */
  steps: number;
  /** Steps that the budget leaves. */
  stepsLeft: number;
}

/** The budget of private training: steps are counted before they are taken, so that a crash can only overcount. */
export interface PrivacyGuard {
  report(): PrivacyReport;
  /** Counts `steps`: on disk when it resolves. Rejects with StoreUnavailableError, having counted nothing. */
  charge(steps: number): Promise<void>;
  /**
   * Counts what is missing to `steps` over the life of this peer: so many stand in its own updates, which the swarm
   * holds, and an older copy of its files does not know of them. As charge.
   */
  atLeast(steps: number): Promise<void>;
  /** Takes back `steps` of the last charge that were never taken. As charge. */
  refund(steps: number): Promise<void>;
}

/** Everything a peer must remember besides the log and the optimiser's moments. Written as one atomic unit. */
export interface PeerState {
  /** The last epoch that was trained; -1 before the first. */
  epoch: number;
  /** What no update has told yet, by that epoch: [adapterSize] float32. */
  residual: Float32Array;
  /** This peer's newest own update, as it was (or will be) published; null before the first. */
  update: Uint8Array | null;
  /** Optimiser steps since that update, of epochs in which this peer does not publish. */
  waitingSteps: number;
  /**
   * Id of the last seal (StoredSeal) whose loss went back into the residual: the own updates that it does not count.
   * Null before the first.
   */
  settledSeal: string | null;
  /** Totals over the life of this peer in this run. */
  steps: number;
  tokens: number;
  /** Held-out loss of the untouched base, and of the fold after some epochs. */
  heldOutBase: number | null;
  heldOutHistory: { epoch: number; loss: number }[];
}

/** Where a record lies in the log on disk; of no meaning to anyone but the store. */
export type RecordPlace = number;

/** The certificate that the log goes on from. Written as one atomic unit, after its sum. */
export interface StoredSeal {
  /** An encoded SealCertificate and the SealContents that it names. */
  certificate: Uint8Array;
  contents: Uint8Array;
  /** Epoch of the certificate. */
  epoch: number;
  /** Epoch of the certificate that this peer had adopted before; 0 for none. */
  previousEpoch: number;
  /** The log on disk has all sealed updates from this epoch on: 0 while nothing was dropped. */
  logStart: number;
}

/** The data directory, as peer.ts sees it. Every promise resolves when the data survives power loss. */
export interface Store {
  /** Null when this peer has not finished an epoch yet. */
  loadState(): Promise<PeerState | null>;
  /** Replaces the state atomically: after a crash either the old or the new one is there, whole. */
  saveState(state: PeerState): Promise<void>;
  /** Null when there are none, or they were damaged. */
  loadMoments(): Promise<Moments | null>;
  /**
   * Replaces the optimiser's moments atomically: apart from the state, and not in every epoch, for they are large.
   * @throws MomentsLostError too; those that were saved before are then still there.
   */
  saveMoments(moments: Moments): Promise<void>;
  /** Calls `onRecord` for each record that was appended, in order; a torn record at the end is dropped. */
  loadLog(onRecord: (record: Uint8Array, place: RecordPlace) => void): Promise<void>;
  /** Appends one record (an encoded gossip message). Resolves with its place. */
  appendLog(record: Uint8Array): Promise<RecordPlace>;
  /** A record that was appended; at once, as the fold needs it. @throws StoreUnavailableError */
  readLog(place: RecordPlace): Uint8Array;
  /** Bytes of the log on disk. */
  readonly logBytes: number;
  /**
   * Replaces the log, atomically, by `records`, each a place in the old one or encoded. Calls `onMoved` with the new place of each, in the same
   * order, at the moment from which readLog() takes these; that may have come when it rejects.
   */
  compactLog(
    records: readonly (RecordPlace | Uint8Array)[],
    onMoved: (places: readonly RecordPlace[]) => void,
  ): Promise<void>;
  /** Null before the first, and when it was damaged. */
  loadSeal(): Promise<StoredSeal | null>;
  /** Replaces the certificate atomically. The sum of its epoch is there; those of others go, but the newest before. */
  saveSeal(seal: StoredSeal): Promise<void>;
  /** The fold's sum before `epoch`: [adapterSize] float64; null when there is none, or it was damaged. */
  loadSum(epoch: number): Promise<Float64Array | null>;
  saveSum(epoch: number, sum: Float64Array): Promise<void>;
  /** Bytes `start` to `end` of a sum as little-endian float64, for others. Rejects when it is gone. */
  readSum(epoch: number, start: number, end: number): Promise<Uint8Array>;
}

/** Files of the base model that this peer gives to members who lack them. */
export interface ModelSource {
  /** The catalogue, or a part of a file, by its root (hex); undefined when it is neither, or gone from the disk. Never rejects. */
  find(root: string): Promise<BlobSource<Chunk> | undefined>;
}

/** Thrown by a Store when the disk refuses: full, read-only, gone. The peer retries; nothing is lost. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
}
