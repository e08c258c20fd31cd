/**
 * Every bound on what another peer can make us store, compute or wait for: its unit and its reason.
 * A bound that a run can choose (epochs, rank) is checked when its manifest is decoded.
 */

/** Bytes of an encoded manifest. 2,048 modules of ~100 bytes are 205 KB. */
export const MANIFEST_BYTES_MAX = 512 * 1024;

/** LoRA modules in one adapter: seven a layer in a 128-layer model are 896. */
export const MODULES_MAX = 2048;

/** LoRA rank. Beyond it full fine-tuning is the better tool. */
export const RANK_MAX = 256;

/** Features on either side of one adapted linear layer. */
export const FEATURES_MAX = 1 << 20;

/** Coordinates of one adapter: 128 Mi float32 values are 512 MiB of theta and 1 GiB of residual. */
export const ADAPTER_SIZE_MAX = 1 << 27;

/** Epochs of one run: a have-vector is one bit an epoch, so 12.5 KB an author. */
export const EPOCHS_MAX = 100_000;

/** Length of an epoch in ms, 500 ms to 1 day: a slot must outlast a gossip round trip. */
export const EPOCH_MS_MIN = 500;
export const EPOCH_MS_MAX = 86_400_000;

/** Bytes of an encoded amendment of a manifest; it has about 45. */
export const AMENDMENT_BYTES_MAX = 128;

/** Frames of kinds that only a newer version knows, skipped in one sync session. */
export const UNKNOWN_FRAMES_MAX = 64;

/** Optimiser steps that an update may claim. */
export const STEPS_MAX = 1_000_000;

/** Authors in one run's log: bounds the log, and the have-vectors exchanged in a sync. */
export const AUTHORS_MAX = 1024;

/** Bytes of one encoded update: the largest adapter at 4 bits in blocks of 8 has 96 MiB, and a header. */
export const UPDATE_BYTES_MAX = 96 * 1024 * 1024 + 1024;

/**
 * Bytes of an update that travels inside a gossip message; a larger one is announced and fetched by
 * sync. Gossip carries each byte about six times (D = 6), a stream once.
 */
export const UPDATE_INLINE_BYTES_MAX = 64 * 1024;

/** Bytes of any gossip message: an inline update and its envelope. */
export const GOSSIP_BYTES_MAX = UPDATE_INLINE_BYTES_MAX + 1024;

/** How far ahead of the own clock an update's epoch may lie before it is deferred, in epochs. */
export const FUTURE_EPOCHS_MAX = 1;

/** Deferred updates kept for later, over all senders; more are dropped and come back by sync. */
export const DEFERRED_MAX = 256;

/** Bytes of one sync frame: 256 KiB chunks were the fastest over yamux (8 MiB transfers, loopback). */
export const SYNC_FRAME_BYTES_MAX = 256 * 1024 + 64;

/** Bytes of update data in one sync frame. */
export const SYNC_CHUNK_BYTES = 256 * 1024;

/** Bytes of a have-vector in all its frames: AUTHORS_MAX authors of EPOCHS_MAX epochs fit. */
export const HAVE_BYTES_MAX = 16 * 1024 * 1024;

/** Bytes of updates asked for in one sync session (one update at least); the rest follows in the next. */
export const SYNC_SESSION_BYTES_MAX = 32 * 1024 * 1024;

/** One sync session may take this long in ms before it is cut. */
export const SYNC_TIMEOUT_MS = 60_000;

/** Sync sessions served at one time, over all peers, and for one peer. */
export const SYNC_SESSIONS_MAX = 8;
export const SYNC_SESSIONS_PER_PEER_MAX = 1;

/** Runs that one bootstrap node or peer lists, and peers listed for one run. */
export const RUNS_MAX = 256;
export const RUN_PEERS_MAX = 64;

/** Addresses listed for one peer, and bytes of one multiaddr. */
export const ADDRESSES_MAX = 16;
export const ADDRESS_BYTES_MAX = 512;
