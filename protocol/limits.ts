/**
 * Every bound on what another peer can make us store, compute or wait for: its unit and its reason. Which field
 * has which, and the sizes that follow from the format itself, stand in wire/messages.proto.
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

/** Cohorts of a run: of AUTHORS_MAX members 16 publish in an epoch then, and each in one of 64. */
export const COHORTS_MAX = 64;

/** Length of an epoch in ms, 500 ms to 1 day: a slot must outlast a gossip round trip. */
export const EPOCH_MS_MIN = 500;
export const EPOCH_MS_MAX = 86_400_000;

/** Bytes of an encoded amendment of a manifest; it has about 45. */
export const AMENDMENT_BYTES_MAX = 128;

/** Bytes of an encoded admission, its invitation included, which has about 190. */
export const ADMISSION_BYTES_MAX = 256;

/** Admissions in one sync session: two for each of AUTHORS_MAX invitations. More make no difference to anybody. */
export const ADMISSIONS_MAX = 2048;

/** Characters of an invite, and addresses in it: one fits into a mail, and base58 takes quadratic time. */
export const INVITE_LENGTH_MAX = 4096;
export const INVITE_ADDRESSES_MAX = 8;

/** Frames of kinds that only a newer version knows, skipped in one sync session. */
export const UNKNOWN_FRAMES_MAX = 64;

/** Optimiser steps that an update may claim. */
export const STEPS_MAX = 1_000_000;

/** Authors in one run's log: bounds the log, and the have-vectors exchanged in a sync. */
export const AUTHORS_MAX = 1024;

/** Proofs of equivocation kept in an open run, beside those against authors whose updates are held. */
export const PROOFS_MAX = 1024;

/** Authors in a run with the robust fold: it compares each row with every other, so 64 cost 2,016 pairs. */
export const ROBUST_AUTHORS_MAX = 64;

/** Bytes of one encoded update: that of the largest adapter has 17 MiB, and a header. */
export const UPDATE_BYTES_MAX = 17 * 1024 * 1024 + 1024;

/**
 * Bytes of an update that travels inside a gossip message; a larger one is announced and fetched as a
 * blob. Gossip carries each byte several times, a stream once.
 */
export const UPDATE_INLINE_BYTES_MAX = 64 * 1024;

/** Bytes of any gossip message: an inline update and its envelope. */
export const GOSSIP_BYTES_MAX = UPDATE_INLINE_BYTES_MAX + 1024;

/**
 * Gossip taken from one sender, in messages (control entries count too): at once, what two epochs of AUTHORS_MAX
 * authors bring; in a second in the long run, each costs two signatures, so 128 cost 4 % of a core.
 */
export const GOSSIP_MESSAGES_BURST = 2 * AUTHORS_MAX;
export const GOSSIP_MESSAGES_PER_SECOND = 128;

/** The same in bytes, whatever they hold: 64 inline updates a second, and 256 of them at once. */
export const GOSSIP_BURST_BYTES = 16 * 1024 * 1024;
export const GOSSIP_BYTES_PER_SECOND = 4 * 1024 * 1024;

/** How far ahead of the own clock an update's epoch may lie before it is deferred, in epochs. */
export const FUTURE_EPOCHS_MAX = 1;

/** Deferred updates kept for later, over all senders; more are dropped and come back by sync. */
export const DEFERRED_MAX = 256;

/** Bytes of one frame of a sync or blob stream: 256 KiB chunks were the fastest over yamux (8 MiB transfers, loopback). */
export const SYNC_FRAME_BYTES_MAX = 256 * 1024 + 64;

/** Bytes of update data in one sync frame. */
export const SYNC_CHUNK_BYTES = 256 * 1024;

/** Encoded bytes of a have-vector in all its frames: AUTHORS_MAX authors of EPOCHS_MAX epochs fit. */
export const HAVE_BYTES_MAX = 16 * 1024 * 1024;

/** Epochs between two seals, and between an epoch and its seal: a vote that comes later helps nobody. */
export const SEAL_EPOCHS_MAX = 1000;

/** Epochs whose seals are collected at one time: the newest that are due. Earlier ones found no quorum. */
export const SEALS_OPEN_MAX = 4;

/** Seals in one sync session: one of each member for each open epoch. */
export const SEALS_MAX = SEALS_OPEN_MAX * 1024;

/** Members who may vote on a seal: those that a manifest lists, and as many who were invited. */
export const VOTERS_MAX = 2 * AUTHORS_MAX;

/** Authors with a proof against them: those whose updates are held, and PROOFS_MAX others. */
export const EVICTED_MAX = AUTHORS_MAX + PROOFS_MAX;

/** Bytes of a bitmap of epochs: a run may be longer at the other side, by an amendment. */
export const BITMAP_BYTES_MAX = Math.ceil(EPOCHS_MAX / 8);

/** Bytes of the ids of one author in a seal, if no seal before it found a quorum. */
export const SEALED_IDS_BYTES_MAX = 32 * EPOCHS_MAX;

/** Bytes of an encoded seal statement, which has about 190. */
export const SEAL_STATEMENT_BYTES_MAX = 256;

/** Bytes of the contents of a seal: a have-vector, and ids of SEAL_EPOCHS_MAX epochs of 512 authors. */
export const SEAL_CONTENTS_BYTES_MAX = 32 * 1024 * 1024;

/** Bytes of updates asked for in one sync session (one at least); the rest follows in the next. */
export const SYNC_SESSION_BYTES_MAX = 32 * 1024 * 1024;

/** One sync session may take this long in ms before it is cut. */
export const SYNC_TIMEOUT_MS = 60_000;

/** Sync sessions served at one time, over all peers, and for one peer. */
export const SYNC_SESSIONS_MAX = 8;
export const SYNC_SESSIONS_PER_PEER_MAX = 1;

/**
 * Sync sessions that one peer may open: at once, and in a second in the long run. With the shortest epochs a peer
 * opens one every 250 ms on average, to a member drawn at random.
 */
export const SYNC_OPENS_BURST = 32;
export const SYNC_OPENS_PER_SECOND = 8;

/** Bytes of one chunk of a blob (the last is shorter): it fills a frame, and its hash weighs nothing. */
export const BLOB_CHUNK_BYTES = 256 * 1024;

/** Bytes of one blob: theta of the largest adapter in float64. Its 4,096 hashes fit into one frame. */
export const BLOB_BYTES_MAX = 1024 * 1024 * 1024;

/** Chunks that one stream may be asked for ahead: 1 MiB covers 50 ms of 160 Mbit/s. */
export const BLOB_WINDOW_CHUNKS = 4;

/** One blob stream may take this long in ms before it is cut; what has come stays. */
export const BLOB_TIMEOUT_MS = 60_000;

/** Blobs fetched at one time: as many authors are done at once at the end of an epoch. */
export const BLOBS_MAX = 16;

/** Bytes of all blobs being fetched (one at least), and of those kept half-done for a later holder. */
export const BLOBS_BYTES_MAX = 128 * 1024 * 1024;

/** Blobs that wait for their turn; more are left to sync. */
export const BLOBS_WAITING_MAX = 256;

/**
 * Blob streams served at one time, over all peers (each holds two chunks at most while its remote does not
 * read), and for one peer: what it fetches at a time, and some that are just ending.
 */
export const BLOB_STREAMS_MAX = 128;
export const BLOB_STREAMS_PER_PEER_MAX = BLOBS_MAX + 4;

/**
 * Blob streams that one peer may open: at once, one for each author of an epoch; in a second in the long run, as
 * many as announcements of large updates come.
 */
export const BLOB_OPENS_BURST = AUTHORS_MAX;
export const BLOB_OPENS_PER_SECOND = 64;

/**
 * Bytes of blobs served to one peer: at once, and in a second in the long run. Each blob is needed once,
 * so the largest update and two parts of a model are there at once; after them 32 Mbit/s leave an uplink to others.
 */
export const BLOB_BURST_BYTES = 64 * 1024 * 1024;
export const BLOB_BYTES_PER_SECOND = 4 * 1024 * 1024;

/** Bytes of one part of a file of the base model (the last is shorter): four on their way fit into BLOBS_BYTES_MAX. */
export const MODEL_PART_BYTES = 32 * 1024 * 1024;

/** Files of one base model: a config, a tokenizer and the like, and shards of weights; 5 GB each are usual. */
export const MODEL_FILES_MAX = 256;

/** Characters of a file's name: every file system takes so many. */
export const MODEL_FILE_NAME_LENGTH_MAX = 128;

/** Bytes of all files of one base model: more than any machine trains on. */
export const MODEL_BYTES_MAX = 1024 * 1024 * 1024 * 1024;

/** Bytes of the catalogue of these files: 32,768 parts of 34 bytes each and the names are 1.2 MB. */
export const MODEL_CATALOGUE_BYTES_MAX = 2 * 1024 * 1024;

/**
 * Bytes of the base model served to all peers together: at once, and in a second in the long run. 64 Mbit/s are what two
 * peers may be given anyway; any number of newcomers leave the rest of an uplink to updates.
 */
export const MODEL_BURST_BYTES = MODEL_PART_BYTES;
export const MODEL_BYTES_PER_SECOND = 2 * BLOB_BYTES_PER_SECOND;

/** Runs that one bootstrap node or peer lists, and peers listed for one run. */
export const RUNS_MAX = 256;
export const RUN_PEERS_MAX = 64;

/** Addresses listed for one peer, and bytes of one multiaddr. */
export const ADDRESSES_MAX = 16;
export const ADDRESS_BYTES_MAX = 512;

/** Addresses through relays among those: each makes whoever dials it remember one relay. */
export const RELAYED_ADDRESSES_MAX = 4;

/** Ports that one reach check tries, each with a connection of its own. */
export const REACH_PORTS_MAX = 4;

/**
 * Introductions answered to one peer: at once, and in a second in the long run. A member announces itself twice
 * when it connects, and else every 5 s at most; an answer may have 3 MiB.
 */
export const INTRODUCTIONS_BURST = 16;
export const INTRODUCTIONS_PER_SECOND = 1;

/**
 * The same for all keys of one public network together, because a key costs nothing: at once, what 128 peers behind one
 * router need when they start together; in the long run, 80 of them that are alone, or 480 that are not.
 */
export const NETWORK_INTRODUCTIONS_BURST = 256;
export const NETWORK_INTRODUCTIONS_PER_SECOND = 16;

/**
 * Manifests decoded and admissions verified (10 ms of a core at most) for one key that announces itself, and for all keys
 * of one public network. A peer needs one of each, once; 64 that were invited may sit behind one router.
 */
export const INTRODUCTION_CHECKS_BURST = 8;
export const INTRODUCTION_CHECKS_PER_MINUTE = 6;
export const NETWORK_INTRODUCTION_CHECKS_BURST = 64;
export const NETWORK_INTRODUCTION_CHECKS_PER_MINUTE = 30;

/** Members of a run named in one answer: five times as many as a newcomer connects to. */
export const INTRODUCED_PEERS_MAX = 32;

/** Reach checks made for one peer: at once, and in a minute in the long run. It asks every minute at most. */
export const REACH_CHECKS_BURST = 4;
export const REACH_CHECKS_PER_MINUTE = 4;

/** The same for all keys of one public network together. */
export const NETWORK_REACH_CHECKS_BURST = 16;
export const NETWORK_REACH_CHECKS_PER_MINUTE = 16;
