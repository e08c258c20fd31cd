/** What vectors.json pins, computed from the code: the bytes on the wire and the numbers behind them. */
import { fileURLToPath } from 'node:url';
import { createAmendment } from '../../../protocol/amendment.js';
import { adapterLayout, adapterSha256, initialAdapter } from '../../../protocol/adapter.js';
import {
  BlobAsker,
  BlobGiver,
  blobRoot,
  chunkHashes,
  encodeBlobAbsent,
  encodeBlobChunk,
  PartialBlob,
  sliceOf,
  wholeBlob,
} from '../../../protocol/blob.js';
import { fromHex, sha256, toHex } from '../../../protocol/bytes.js';
import { equivocationProof, sealEquivocationProof } from '../../../protocol/equivocation.js';
import { Fold } from '../../../protocol/fold.js';
import {
  encodeAdmission,
  encodeAmendment,
  encodeAnnouncement,
  encodeEquivocation,
  encodeSeal,
  encodeUpdateMessage,
  equivocationToWire,
} from '../../../protocol/gossip.js';
import { toHalf } from '../../../protocol/half.js';
import { encodeHave, encodeOpening, encodeWant, NO_SEALS } from '../../../protocol/have.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import { BLOB_CHUNK_BYTES, MODEL_PART_BYTES } from '../../../protocol/limits.js';
import { encodeInvite } from '../../../protocol/invite.js';
import { UpdateLog } from '../../../protocol/log.js';
import { CODECS, type Manifest, type Run } from '../../../protocol/manifest.js';
import { Members } from '../../../protocol/members.js';
import { catalogueName, encodeModelFiles, type ModelFile } from '../../../protocol/model-files.js';
import { Prng } from '../../../protocol/prng.js';
import { SyncSession } from '../../../protocol/sync.js';
import { encodeStatement } from '../../../protocol/seal.js';
import { updateToWire } from '../../../protocol/update.js';
import * as wire from '../../../protocol/wire/messages.js';
import { inviteRun, testAdmission } from '../../support/invites.js';
import { certificateOf, sealedLog, sealsOf, type SealedLog } from '../../support/seals.js';
import { cohortsVector, turnsManifest } from './cohort-vectors.js';
import { authorVector, formatVector, rowVectors, updateVector } from './row-vectors.js';
import { decodeUpdate, filterLog, float64Bytes, foldLog, foldVector } from './fold-vectors.js';
import { TEST_START_MS, testIdentity, testRun, testUpdate } from '../../support/runs.js';

/** In the source tree also when this runs from the build. */
export const VECTORS_FILE = fileURLToPath(new URL('vectors.json', import.meta.url)).replace(
  /\/dist(\/test\/[^.]*\.json)$/,
  '$1',
);

const ALLOWLIST_WEIGHTS = [3, 1, 2];

/** An allowlist with weights, two alphas, and text that is not ASCII. */
function richManifest(manifest: Manifest): Manifest {
  return {
    ...manifest,
    name: 'Zürich 東京',
    fold: {
      mode: 'mean',
      trimFraction: 0,
      clip: 1.25,
      lagMax: 8,
      sealEvery: 6,
      sealAfter: 3,
      alpha: [
        { fromEpoch: 0, numerator: 1, denominator: 1 },
        { fromEpoch: 9, numerator: 2, denominator: 3 },
      ],
    },
    membership: {
      mode: 'allowlist',
      members: ALLOWLIST_WEIGHTS.map((weight, i) => ({ peerId: testIdentity(i).peerId, weight })),
    },
  };
}

/** The robust fold: of three rows floor(0.4 * 3) = 1 may lie. */
function robustManifest(manifest: Manifest): Manifest {
  const { fold, compression, membership } = richManifest(manifest);
  return {
    ...manifest,
    compression,
    fold: { ...fold, mode: 'robust', trimFraction: 0.4 },
    membership: {
      mode: 'allowlist',
      members:
        membership.mode === 'open' ? [] : membership.members.map((m) => ({ ...m, weight: 1 })),
    },
  };
}

/** The filtered fold, of more authors than each is compared with. */
function filteredManifest(manifest: Manifest): Manifest {
  const weights = Array.from({ length: 36 }, (_, i) => ALLOWLIST_WEIGHTS[i % 3] ?? 1);
  return {
    ...manifest,
    fold: { ...richManifest(manifest).fold, mode: 'filtered' },
    membership: {
      mode: 'allowlist',
      members: weights.map((weight, i) => ({ peerId: testIdentity(i).peerId, weight })),
    },
  };
}

/** Two small files and a large one of two parts, whose roots are those of some bytes. */
const SMALL_FILES = { 'config.json': 700, 'tokenizer.json': 600_000 };
const LARGE_FILE = { name: 'model.safetensors', size: MODEL_PART_BYTES + 1 };

function fileBytes(size: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length: size }, (_, i) => i * 7 + (i >> 8));
}

function modelFiles(): ModelFile[] {
  const rootOf = (bytes: Uint8Array): string => toHex(blobRoot(chunkHashes([bytes])));
  const small = Object.entries(SMALL_FILES).map(([name, size]) => ({
    name,
    size,
    parts: [rootOf(fileBytes(size))],
  }));
  return [...small, { ...LARGE_FILE, parts: [rootOf(fileBytes(1)), rootOf(fileBytes(2))] }];
}

/** A run that names the files of its base model. */
function filedManifest(manifest: Manifest): Manifest {
  const files = catalogueName(encodeModelFiles(modelFiles()));
  return { ...manifest, model: { ...manifest.model, files } };
}

function modelFilesVector(): object {
  const bytes = encodeModelFiles(modelFiles());
  return { small: SMALL_FILES, large: LARGE_FILE, bytes: toHex(bytes), ...catalogueName(bytes) };
}

type RunName =
  | 'plain'
  | 'unclipped'
  | 'rich'
  | 'robust'
  | 'small'
  | 'smallest'
  | 'filtered'
  | 'mixed'
  | 'invited'
  | 'filed'
  | 'turns';

function runs(): Record<RunName, Run> {
  return {
    plain: testRun(),
    // One author moves some coordinates by more than an epoch may.
    unclipped: testRun((m) => ({ ...m, fold: { ...m.fold, clip: 0 } })),
    rich: testRun(richManifest),
    robust: testRun(robustManifest),
    // The codecs that save bytes, in the mean and the robust one.
    small: testRun((m) => ({ ...richManifest(m), compression: { codec: 'rec20' } })),
    smallest: testRun((m) => ({ ...robustManifest(m), compression: { codec: 'rec10' } })),
    filtered: testRun(filteredManifest),
    mixed: testRun((m) => ({ ...filteredManifest(m), compression: { codec: 'rec20' } })),
    invited: inviteRun(),
    filed: testRun(filedManifest),
    turns: testRun(turnsManifest),
  };
}

function prngVector(seed: Uint8Array, label: string): object {
  const draw = <T>(count: number, next: (random: Prng) => T): T[] => {
    const random = new Prng(seed, label);
    return Array.from({ length: count }, () => next(random));
  };
  return {
    seed: toHex(seed),
    label,
    uint32: draw(8, (random) => random.nextUint32()),
    // Three quarters of 2^32: one draw in four is rejected.
    below3221225472: draw(8, (random) => random.nextBelow(3221225472)),
    below10: draw(8, (random) => random.nextBelow(10)),
  };
}

function runVector(run: Run): object {
  const { adapter } = run.manifest;
  return {
    manifest: toHex(run.bytes),
    runId: run.id,
    adapterSize: adapterLayout(adapter).size,
    initialAdapterSha256: adapterSha256(initialAdapter(adapter)),
  };
}

/** A blob of three chunks, the last of them short, from a pattern: byte i is i * 7 + floor(i / 256), modulo 256. */
function blobVector(): object {
  const size = 2 * BLOB_CHUNK_BYTES + 1000;
  const bytes = Uint8Array.from({ length: size }, (_, i) => i * 7 + (i >> 8));
  const hashes = chunkHashes([bytes.subarray(0, 333), bytes.subarray(333)]);
  return { size, hashes: toHex(hashes), root: toHex(blobRoot(hashes)) };
}

/** The certificates of a log, one after the other, and the messages by which seals are passed on. */
function sealVector(name: string, run: Run): object {
  const { messages } = foldLog(run);
  const members = new Members(run.manifest.membership);
  const log = new UpdateLog({ members });
  for (const message of messages) log.insert(decodeUpdate(run, message));
  const sealed: SealedLog[] = [];
  for (const epoch of [6, 12, 18]) {
    const next = sealedLog(run, log, epoch, sealed.at(-1) ?? null);
    sealed.push(next);
    log.seal(epoch, next.statement.id);
  }
  const last = (sealed.at(-1) ?? sealedLog(run, log, 18)).statement;
  const other = (sealed[0] ?? sealedLog(run, log, 6)).statement;
  const [seal] = sealsOf(last, [1]);
  // Weights 3, 1 and 2: 0 and 2 have five sixths.
  const certificate = certificateOf(last, [2, 0]).wire;
  const rival = encodeStatement(run, { ...last, previous: other.id });
  const [fork] = sealsOf(rival, [1]);
  const proof = sealEquivocationProof(seal, fork);
  const held = { epoch: last.epoch, statement: last.id };
  const digest = sha256(new TextEncoder().encode(`${last.id} ${seal.member}\n`));
  const frames = {
    seal: encodeSeal(seal),
    sealEquivocation: encodeEquivocation(proof),
    opening: encodeOpening(run, log, TEST_START_MS, { sealed: held, digest }),
    certificate: wire.SyncFrame.encode({ certificate }),
    syncSeal: wire.SyncFrame.encode({ seal: seal.signed }),
    syncSealEquivocation: wire.SyncFrame.encode(equivocationToWire(proof)),
  };
  return {
    run: name,
    gossip: messages.map(toHex),
    sealed: sealed.map(({ statement, contents }) => {
      return {
        id: statement.id,
        statement: toHex(statement.bytes),
        contents: toHex(contents.bytes),
      };
    }),
    logDigest: toHex(log.digest()),
    ...Object.fromEntries(Object.entries(frames).map(([kind, frame]) => [kind, toHex(frame)])),
  };
}

/** One message of each other kind. */
function messageVectors(run: Run): Record<string, string> {
  const [a, b] = [testIdentity(0), testIdentity(1)];
  const log = new UpdateLog();
  for (const epoch of [0, 1, 9]) log.insert(testUpdate(run, a, epoch));
  log.insert(testUpdate(run, b, 4));
  const proof = equivocationProof(testUpdate(run, b, 4), testUpdate(run, b, 4, { salt: 'again' }));
  const opening = encodeOpening(run, log, TEST_START_MS + 12_345, NO_SEALS);
  const [have = new Uint8Array()] = encodeHave(run, log);
  const [want = new Uint8Array()] = encodeWant(new Map([[a.peerId, [1, 9]]]));
  log.evict(proof);
  const [haveEvicted = new Uint8Array()] = encodeHave(run, log);
  const announced = testUpdate(run, a, 0);
  const update = wire.Update.encode(updateToWire(announced));
  const body = [announced.scales, announced.codes];
  const giver = new BlobGiver(wholeBlob(body, chunkHashes(body)));
  const root = toHex(announced.bodyRoot);
  const asker = new BlobAsker(new PartialBlob({ root, size: Buffer.concat(body).length }));
  const amendment = createAmendment(run, a, 50);
  const haveAmended = encodeOpening(run, log, TEST_START_MS, NO_SEALS, amendment);
  const addresses = ['/ip4/192.0.2.7/tcp/4001', '/dns4/peer.example/tcp/4002'];
  const peers = [{ peerId: b.peerId, addresses }];
  const messages = {
    amendment: encodeAmendment(amendment),
    announcement: encodeAnnouncement(testUpdate(run, a, 0)),
    equivocation: encodeEquivocation(proof),
    opening,
    have,
    haveAmended,
    haveEvicted,
    want,
    chunk: wire.SyncFrame.encode({ chunk: { bytes: update.subarray(0, 40), last: false } }),
    lastChunk: wire.SyncFrame.encode({ chunk: { bytes: update.subarray(40), last: true } }),
    syncEquivocation: wire.SyncFrame.encode(equivocationToWire(proof)),
    end: wire.SyncFrame.encode({ end: {} }),
    blobOpen: asker.hello(run.id),
    blobOffer: giver.offer() ?? new Uint8Array(),
    blobWant: asker.ask(0),
    blobChunk: encodeBlobChunk(0, sliceOf(body, 0, Infinity)),
    blobAbsent: encodeBlobAbsent(),
    introduceRequest: wire.IntroduceRequest.encode({
      runId: fromHex(run.id),
      manifest: Uint8Array.from(run.bytes),
      addresses,
    }),
    introduceResponse: wire.IntroduceResponse.encode({
      runs: [{ manifest: Uint8Array.from(run.bytes), peers }],
      refusal: 0,
    }),
    reachRequest: wire.ReachRequest.encode({ ports: [4001, 65535] }),
    reachResponse: wire.ReachResponse.encode({ seen: '/ip4/192.0.2.7', ports: [4001] }),
  };
  return Object.fromEntries(Object.entries(messages).map(([kind, bytes]) => [kind, toHex(bytes)]));
}

/** Admissions, their order on the wire and what they come to: peer 1 is in, 2 and 3 have used one invitation. */
function membershipVector(name: string, run: Run): object {
  const log = new UpdateLog({ members: new Members(run.manifest.membership) });
  const admissions = [
    testAdmission(run, 1, 'one', { firstEpoch: 4 }),
    testAdmission(run, 1, 'one', { firstEpoch: 2 }),
    testAdmission(run, 2, 'two'),
    testAdmission(run, 3, 'two', { firstEpoch: 1 }),
  ];
  for (const admission of admissions) log.admit(admission);
  for (const index of [0, 1]) log.insert(testUpdate(run, testIdentity(index), 6));
  const fold = new Fold(run);
  fold.compute(log);
  const [syncAdmission = new Uint8Array(), ...others] = new SyncSession(
    run,
    log,
    new Set(),
  ).vectors();
  const { signed } = admissions[0] ?? testAdmission(run, 1, 'one');
  const { invitation, signature } = wire.Admission.decode(signed.admission);
  const secret = sha256(new TextEncoder().encode('one-time/one'));
  const fields = {
    runId: run.id,
    founder: run.manifest.founder,
    addresses: ['/ip4/192.0.2.7/tcp/4001'],
  };
  const frames = {
    opening: encodeOpening(run, log, TEST_START_MS, NO_SEALS),
    syncAdmission,
    introduceRequest: wire.IntroduceRequest.encode({
      ...{ runId: fromHex(run.id), manifest: new Uint8Array(), addresses: fields.addresses },
      admission: signed,
    }),
    introduceResponse: wire.IntroduceResponse.encode({ runs: [], refusal: 3, admission: signed }),
  };
  return {
    run: name,
    gossip: admissions.map((admission) => toHex(encodeAdmission(admission))),
    updates: [0, 1].map((i) => toHex(encodeUpdateMessage(testUpdate(run, testIdentity(i), 6)))),
    members: [1, 2, 3].map((i) => log.members.has(testIdentity(i).peerId)),
    firstEpoch: log.members.firstEpochOf(testIdentity(1).peerId),
    admissionsDigest: toHex(log.members.digest()),
    logDigest: toHex(log.digest()),
    sumSha256: toHex(sha256(float64Bytes(fold.sum()))),
    framesBeforeTheVector: others.length,
    secret: toHex(secret),
    swarmKey: '5a'.repeat(32),
    invite: encodeInvite({
      ...fields,
      invitation,
      signature,
      secret,
      swarmKey: fromHex('5a'.repeat(32)),
    }),
    ...Object.fromEntries(Object.entries(frames).map(([kind, frame]) => [kind, toHex(frame)])),
  };
}

const HALVES = [0, 1e-9, 3e-8, 6e-5, 2 ** -14, 0.1, 1 / 3, 1 + 2 ** -11, 1 + 2 ** -11 + 2 ** -40];

/** The whole content of vectors.json. */
export function makeVectors(): Record<string, unknown> {
  const {
    plain,
    unclipped,
    rich,
    robust,
    small,
    smallest,
    filtered,
    mixed,
    invited,
    filed,
    turns,
  } = runs();
  return {
    peerIds: [0, 1, 2].map((i) => {
      const { peerId } = testIdentity(i);
      return { peerId, publicKey: toHex(publicKeyFromPeerId(peerId)) };
    }),
    prng: [
      prngVector(plain.manifest.adapter.seed, 'slice/0'),
      prngVector(new Uint8Array(32), 'lora_A/é'),
    ],
    halves: [...HALVES, 2049, 65504, 1e6].map((value) => ({
      value,
      nearest: toHalf(value),
    })),
    runs: {
      plain: runVector(plain),
      unclipped: runVector(unclipped),
      rich: runVector(rich),
      robust: runVector(robust),
      small: runVector(small),
      smallest: runVector(smallest),
      filtered: runVector(filtered),
      mixed: runVector(mixed),
      invited: runVector(invited),
      filed: runVector(filed),
      turns: runVector(turns),
    },
    formats: [
      ...[0, 1, 30].map((epoch) => formatVector('rich', rich, epoch)),
      formatVector('small', small, 2),
      formatVector('smallest', smallest, 2),
    ],
    rows: CODECS.flatMap((codec) => rowVectors('plain', plain, codec)),
    authors: [
      authorVector('plain', plain, 3),
      authorVector('plain', plain, 36),
      authorVector('rich', rich, 7),
      authorVector('small', small, 7),
      authorVector('smallest', smallest, 7),
    ],
    updates: [
      updateVector('plain', plain, testUpdate(plain, testIdentity(3), 2, { baseEpoch: 1 })),
      updateVector('rich', rich, testUpdate(rich, testIdentity(1), 4)),
      updateVector('rich', rich, testUpdate(rich, testIdentity(1), 8)),
      updateVector('rich', rich, testUpdate(rich, testIdentity(1), 13)),
      updateVector('small', small, testUpdate(small, testIdentity(1), 13)),
      updateVector('smallest', smallest, testUpdate(smallest, testIdentity(1), 13)),
    ],
    cohorts: [cohortsVector('turns', turns)],
    blob: blobVector(),
    modelFiles: modelFilesVector(),
    messages: messageVectors(plain),
    membership: membershipVector('invited', invited),
    seals: [sealVector('rich', rich)],
    folds: [
      foldVector('plain', plain),
      foldVector('unclipped', unclipped),
      foldVector('rich', rich),
      foldVector('robust', robust),
      foldVector('small', small),
      foldVector('smallest', smallest),
      foldVector('filtered', filtered, filterLog(filtered)),
      foldVector('mixed', mixed, filterLog(mixed)),
    ],
  };
}
