/** Blob streams, streams of model files, introductions and reach checks, with a hostile remote */
import { IntroduceError, NotAdmittedError, ReachError } from '../../node/net/errors.js';
import { answer, decodingRuns } from '../../node/net/introduce.js';
import { usablePorts, usableResult } from '../../node/net/reach.js';
import { RunRegistry } from '../../node/net/run-registry.js';
import {
  BlobAsker,
  BlobGiver,
  decodeBlobOpen,
  encodeBlobChunk,
  PartialBlob,
} from '../../protocol/blob.js';
import { fromHex } from '../../protocol/bytes.js';
import {
  BlobProtocolError,
  InvalidManifestError,
  InvalidModelFilesError,
  WireFormatError,
} from '../../protocol/errors.js';
import * as limits from '../../protocol/limits.js';
import {
  catalogueName,
  decodeModelFiles,
  encodeModelFiles,
  partCount,
} from '../../protocol/model-files.js';
import type { Prng } from '../../protocol/prng.js';
import * as wire from '../../protocol/wire/messages.js';
import { blobOf, pattern } from '../support/blobs.js';
import { testIdentity, testRun } from '../support/runs.js';
import { change } from './changes.js';
import type { CostBounds, Session, SessionScript } from './cost.js';
import { HostileFrames, pick, upTo } from './hostile-frames.js';

const run = testRun();
const runId = fromHex(run.id);
const none = new Uint8Array();
const self = testIdentity(0).peerId;

/** Hashing of what comes is the most of it. */
const BOUNDS: CostBounds = {
  ...{ fixedMs: 200, usPerByte: 0.05, stretchMs: 60 },
  ...{ fixedBytes: 1e6, bytesPerByte: 0.1 },
};

const blob = blobOf(pattern(1024 * 1024 - 5));
const chunkCount = blob.source.chunkCount;

const right = (index: number): wire.BlobChunk => ({
  index,
  bytes: Uint8Array.from(blob.source.chunk(index)),
});

/** What says the right thing, part of it, or anything: an offer that grows bit by bit, chunks asked for and not. */
function* givings(
  name: { size: number; hashes: Uint8Array<ArrayBuffer> },
  random: Prng,
  bytesMax: number,
): Generator<Uint8Array> {
  const count = Math.ceil(name.size / limits.BLOB_CHUNK_BYTES);
  const lent = {
    'BlobOffer.hashes': () => name.hashes,
    'BlobChunk.index': () => random.nextBelow(count),
  };
  const hostile = new HostileFrames(lent, limits.SYNC_FRAME_BYTES_MAX);
  const isFirst = random.nextBelow(4) > 0;
  const held = new Uint8Array(Math.ceil(count / 8));
  if (isFirst) yield wire.BlobFrame.encode({ offer: { hashes: name.hashes, held } });
  let next = 0;
  yield* upTo(bytesMax, () => {
    const kind = random.nextBelow(16);
    if (kind === 0)
      return hostile.framed(
        'BlobFrame',
        pick(random, ['offer', 'chunk', 'want', 'open']),
        ['hashes', 'held', 'index', 'bytes', 'runId', 'root'],
        random,
      );
    if (kind < 8 && next < count) {
      // One more each time, for as many answers as can be had.
      held[next >> 3] = (held[next >> 3] ?? 0) | (1 << (next & 7));
      next += 1;
      const hashes = random.nextBelow(8) === 0 ? name.hashes : none;
      return wire.BlobFrame.encode({ offer: { hashes, held } });
    }
    const frame = wire.BlobFrame.encode({ chunk: right(random.nextBelow(chunkCount)) });
    return random.nextBelow(16) === 0 ? change(frame, [frame], random) : frame;
  });
}

/** Asks for whatever is offered, in the window of a stream. */
function asking(size: number, root: string): Session {
  const partial = new PartialBlob({ root, size });
  const asker = new BlobAsker(partial);
  asker.hello(run.id);
  return {
    *take(frame) {
      yield asker.receive(frame);
      for (let index = 0; index < partial.chunkCount; index++) {
        if (asker.asked >= limits.BLOB_WINDOW_CHUNKS) break;
        if (!partial.has(index) && asker.canAsk(index)) yield asker.ask(index);
      }
    },
  };
}

const asker: SessionScript = {
  // The blob itself is there from its first chunk on.
  bounds: { ...BOUNDS, fixedBytes: BOUNDS.fixedBytes + blob.name.size },
  refusals: [BlobProtocolError],
  goesOn: false,
  frames: (random, bytesMax) =>
    givings({ size: blob.name.size, hashes: blob.hashes }, random, bytesMax),
  start: () => asking(blob.name.size, blob.name.root),
};

/** A part of the base model: more chunks than are ever sent, none of which is right. */
const partHashes = new Uint8Array((32 * limits.MODEL_PART_BYTES) / limits.BLOB_CHUNK_BYTES);
const partName = blobOf(none).name;

const modelPart: SessionScript = {
  ...asker,
  frames: (random, bytesMax) =>
    givings({ size: limits.MODEL_PART_BYTES, hashes: partHashes }, random, bytesMax),
  start: () => asking(limits.MODEL_PART_BYTES, partName.root),
};

/** Serves a stream: requests for chunks in any order, and what is no request. */
const giver: SessionScript = {
  // A request of some bytes is answered with a chunk, once.
  bounds: { ...BOUNDS, usPerByte: 2 },
  refusals: [BlobProtocolError],
  goesOn: false,
  frames: function* (random, bytesMax) {
    const hostile = new HostileFrames({}, limits.SYNC_FRAME_BYTES_MAX);
    yield wire.BlobFrame.encode({ open: { runId, root: fromHex(blob.name.root) } });
    yield* upTo(bytesMax, () => {
      const kind = random.nextBelow(64);
      if (kind === 0) return hostile.framed('BlobFrame', 'chunk', ['index', 'bytes'], random);
      return wire.BlobFrame.encode({ want: { index: random.nextBelow(chunkCount + (kind & 1)) } });
    });
  },
  start: () => {
    let isOpen = false;
    const serving = new BlobGiver(blob.source);
    return {
      *take(frame) {
        if (isOpen) {
          const { index, bytes } = serving.receive(frame);
          yield encodeBlobChunk(index, bytes);
        } else {
          yield decodeBlobOpen(run.id, frame);
          isOpen = true;
          yield serving.offer();
        }
      },
    };
  },
};

/** The list of a base model's files, as a founder can make it: of many files, or of many parts. */
const catalogues = [
  Array.from({ length: limits.MODEL_FILES_MAX - 2 }, (_, i) => ({
    name: `m${i}.safetensors`,
    size: 1,
  })),
  [{ name: 'm.safetensors', size: 2_000 * limits.MODEL_PART_BYTES }],
].map((weights) =>
  encodeModelFiles(
    [...weights, { name: 'config.json', size: 9 }, { name: 'tokenizer.json', size: 9 }].map(
      (file) => ({
        ...file,
        parts: Array<string>(partCount(file.size)).fill(partName.root),
      }),
    ),
  ),
);

const modelFiles: SessionScript = {
  // Each is decoded and checked as a whole, and let go of.
  bounds: {
    ...{ ...BOUNDS, usPerByte: 2 },
    // The last one is still in the hands of who sent it.
    fixedBytes: BOUNDS.fixedBytes + limits.MODEL_CATALOGUE_BYTES_MAX,
  },
  refusals: [InvalidModelFilesError],
  goesOn: true,
  frames: (random, bytesMax) => {
    const hostile = new HostileFrames({}, limits.MODEL_CATALOGUE_BYTES_MAX);
    return upTo(bytesMax, () => {
      const kind = random.nextBelow(4);
      if (kind === 0) return hostile.message('ModelFiles', ['files'], random);
      const list = pick(random, catalogues);
      return kind === 1 ? change(list, [list], random) : list;
    });
  },
  start: () => ({
    *take(frame) {
      yield catalogueName(frame);
      yield decodeModelFiles(frame);
    },
  }),
};

const addresses = ['/ip4/192.0.2.7/tcp/4001', `/dns4/example.org/tcp/4001/p2p/${self}/p2p-circuit`];
const runs = Array.from({ length: 8 }, (_, i) =>
  testRun((manifest) => ({ ...manifest, name: `r${i}` })),
);
const lentToRuns = {
  'IntroduceRequest.runId': (random: Prng) => fromHex(pick(random, runs).id),
  'IntroduceRequest.manifest': (random: Prng) => pick(random, [none, pick(random, runs).bytes]),
  'IntroduceRequest.addresses': (random: Prng) => Buffer.from(pick(random, addresses)),
  'RunInfo.manifest': (random: Prng) => pick(random, runs).bytes,
  'RunPeer.peerId': (random: Prng) => Buffer.from(testIdentity(random.nextBelow(64)).peerId),
  'RunPeer.addresses': (random: Prng) => Buffer.from(pick(random, addresses)),
};
const REQUEST_FIELDS = ['runId', 'manifest', 'addresses', 'admission'];

/** A bootstrap node, which many ask: what it remembers of them all is bounded by what it lists. */
const introduceAnswer: SessionScript = {
  bounds: { ...BOUNDS, usPerByte: 2, fixedBytes: 4e6 },
  refusals: [WireFormatError, IntroduceError, NotAdmittedError, InvalidManifestError],
  goesOn: true,
  frames: (random, bytesMax) => {
    const hostile = new HostileFrames(lentToRuns, limits.MANIFEST_BYTES_MAX);
    const junk = new HostileFrames({}, limits.MANIFEST_BYTES_MAX);
    return upTo(bytesMax, () => {
      const maker = random.nextBelow(8) === 0 ? junk : hostile;
      return maker.message(
        'IntroduceRequest',
        REQUEST_FIELDS.slice(random.nextBelow(2), 3),
        random,
      );
    });
  },
  start: () => {
    const registry = new RunRegistry({ own: null });
    let from = 0;
    return {
      *take(frame) {
        from = (from + 1) % 256;
        const request = wire.IntroduceRequest.decode(frame);
        yield answer(
          request,
          { peerId: testIdentity(from, 'asker').peerId, origin: `/ip4/192.0.2.${from}` },
          {
            registry,
            self: null,
            door: null,
          },
        );
      },
    };
  },
};

const introduceResponse: SessionScript = {
  // The members of one run are looked at in one go: 1,040 addresses at most, of some 30 µs.
  bounds: { ...BOUNDS, usPerByte: 4, stretchMs: 250 },
  refusals: [WireFormatError, InvalidManifestError],
  goesOn: true,
  frames: (random, bytesMax) => {
    const hostile = new HostileFrames(lentToRuns, 256 * 1024);
    return upTo(bytesMax, () => hostile.message('IntroduceResponse', ['runs'], random));
  },
  start: () => ({
    *take(frame) {
      const { runs: infos } = wire.IntroduceResponse.decode(frame);
      yield* decodingRuns({ peerId: self }, infos);
    },
  }),
};

const reach: SessionScript = {
  bounds: { ...BOUNDS, usPerByte: 5 },
  refusals: [WireFormatError, ReachError],
  goesOn: true,
  frames: (random, bytesMax) => {
    const hostile = new HostileFrames(
      { 'ReachResponse.seen': () => Buffer.from('/ip4/192.0.2.7') },
      256,
    );
    return upTo(bytesMax / 32, () => hostile.message('ReachResponse', ['seen', 'ports'], random));
  },
  start: () => ({
    *take(frame) {
      yield usableResult(wire.ReachResponse.decode(frame), [4001]);
      const { ports } = wire.ReachRequest.decode(frame);
      yield usablePorts(ports);
    },
  }),
};

export const STREAM_SCRIPTS = {
  'blob-asker': asker,
  'blob-giver': giver,
  'model-part': modelPart,
  'model-files': modelFiles,
  'introduce-answer': introduceAnswer,
  'introduce-response': introduceResponse,
  reach,
};
