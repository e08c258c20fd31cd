/** The bounds of every field of messages.proto; generated from it by npm run generate:wire. */
import * as limits from '../limits.js';
import { messageBounds } from './guard.js';

export const Model = messageBounds('Model', [
  { number: 1, name: 'name', kind: 'string', bytes: 512 },
  { number: 2, name: 'architecture', kind: 'string', bytes: 64 },
  { number: 3, name: 'configSha256', kind: 'bytes', length: 32 },
  { number: 4, name: 'weightsSha256', kind: 'bytes', length: 32 },
  { number: 5, name: 'tokenizerSha256', kind: 'bytes', length: 32 },
  { number: 6, name: 'filesRoot', kind: 'bytes', length: 32 },
  { number: 7, name: 'filesBytes', kind: 'uint32' },
]);

export const LoraModule = messageBounds('LoraModule', [
  { number: 1, name: 'name', kind: 'string', bytes: 200 },
  { number: 2, name: 'inFeatures', kind: 'uint32' },
  { number: 3, name: 'outFeatures', kind: 'uint32' },
]);

export const Adapter = messageBounds('Adapter', [
  { number: 1, name: 'rank', kind: 'uint32' },
  { number: 2, name: 'alpha', kind: 'double' },
  { number: 3, name: 'seed', kind: 'bytes', length: 32 },
  { number: 4, name: 'targetModules', kind: 'string', count: 64, bytes: 200 },
  { number: 5, name: 'modules', kind: LoraModule, count: limits.MODULES_MAX },
  { number: 6, name: 'initialSha256', kind: 'bytes', length: 32 },
  { number: 7, name: 'initialRoot', kind: 'bytes', length: 32 },
]);

export const Schedule = messageBounds('Schedule', [
  { number: 1, name: 'startMs', kind: 'uint64' },
  { number: 2, name: 'epochMs', kind: 'uint32' },
  { number: 3, name: 'epochsMax', kind: 'uint32' },
  { number: 4, name: 'stepsRef', kind: 'uint32' },
  { number: 5, name: 'cohorts', kind: 'uint32' },
]);

export const Training = messageBounds('Training', [
  { number: 1, name: 'sequenceLength', kind: 'uint32' },
  { number: 2, name: 'batchSize', kind: 'uint32' },
  { number: 3, name: 'learningRate', kind: 'double' },
  { number: 4, name: 'warmupFraction', kind: 'double' },
  { number: 5, name: 'finalFraction', kind: 'double' },
  { number: 6, name: 'weightDecay', kind: 'double' },
  { number: 7, name: 'beta1', kind: 'double' },
  { number: 8, name: 'beta2', kind: 'double' },
  { number: 9, name: 'epsilon', kind: 'double' },
  { number: 10, name: 'gradientNormMax', kind: 'double' },
  { number: 11, name: 'resetMoments', kind: 'bool' },
]);

export const Compression = messageBounds('Compression', [
  { number: 1, name: 'codec', kind: 'uint32' },
]);

export const AlphaPhase = messageBounds('AlphaPhase', [
  { number: 1, name: 'fromEpoch', kind: 'uint32' },
  { number: 2, name: 'numerator', kind: 'uint32' },
  { number: 3, name: 'denominator', kind: 'uint32' },
]);

export const Fold = messageBounds('Fold', [
  { number: 1, name: 'mode', kind: 'uint32' },
  { number: 2, name: 'clip', kind: 'double' },
  { number: 3, name: 'lagMax', kind: 'uint32' },
  { number: 4, name: 'alpha', kind: AlphaPhase, count: 64 },
  { number: 5, name: 'sealEvery', kind: 'uint32' },
  { number: 6, name: 'trimFraction', kind: 'double' },
  { number: 7, name: 'sealAfter', kind: 'uint32' },
]);

export const Member = messageBounds('Member', [
  { number: 1, name: 'publicKey', kind: 'bytes', length: 32 },
  { number: 2, name: 'weight', kind: 'uint32' },
]);

export const Membership = messageBounds('Membership', [
  { number: 1, name: 'mode', kind: 'uint32' },
  { number: 2, name: 'members', kind: Member, count: limits.AUTHORS_MAX },
  { number: 3, name: 'inviteWeight', kind: 'uint32' },
]);

export const Manifest = messageBounds('Manifest', [
  { number: 1, name: 'version', kind: 'uint32' },
  { number: 2, name: 'name', kind: 'string', bytes: 256 },
  { number: 3, name: 'founder', kind: 'bytes', length: 32 },
  { number: 4, name: 'model', kind: Model },
  { number: 5, name: 'adapter', kind: Adapter },
  { number: 6, name: 'schedule', kind: Schedule },
  { number: 7, name: 'training', kind: Training },
  { number: 8, name: 'compression', kind: Compression },
  { number: 9, name: 'fold', kind: Fold },
  { number: 10, name: 'membership', kind: Membership },
]);

export const UpdateHeader = messageBounds('UpdateHeader', [
  { number: 1, name: 'version', kind: 'uint32' },
  { number: 2, name: 'runId', kind: 'bytes', length: 32 },
  { number: 3, name: 'author', kind: 'bytes', length: 32 },
  { number: 4, name: 'epoch', kind: 'uint32' },
  { number: 5, name: 'baseEpoch', kind: 'uint32' },
  { number: 6, name: 'steps', kind: 'uint32' },
  { number: 7, name: 'logDigest', kind: 'bytes', length: 32 },
  { number: 8, name: 'bodyRoot', kind: 'bytes', length: 32 },
]);

export const SignedHeader = messageBounds('SignedHeader', [
  { number: 1, name: 'header', kind: 'bytes', bytes: 512 },
  { number: 2, name: 'signature', kind: 'bytes', length: 64 },
]);

export const Update = messageBounds('Update', [
  { number: 1, name: 'header', kind: 'bytes', bytes: 512 },
  { number: 2, name: 'signature', kind: 'bytes', length: 64 },
  { number: 3, name: 'scales', kind: 'bytes', bytes: 33554432 },
  { number: 4, name: 'codes', kind: 'bytes', bytes: 67108864 },
]);

export const Equivocation = messageBounds('Equivocation', [
  { number: 1, name: 'first', kind: SignedHeader },
  { number: 2, name: 'second', kind: SignedHeader },
]);

export const Amendment = messageBounds('Amendment', [
  { number: 1, name: 'version', kind: 'uint32' },
  { number: 2, name: 'runId', kind: 'bytes', length: 32 },
  { number: 3, name: 'epochsMax', kind: 'uint32' },
]);

export const SignedAmendment = messageBounds('SignedAmendment', [
  { number: 1, name: 'amendment', kind: 'bytes', bytes: limits.AMENDMENT_BYTES_MAX },
  { number: 2, name: 'signature', kind: 'bytes', length: 64 },
]);

export const Invitation = messageBounds('Invitation', [
  { number: 1, name: 'version', kind: 'uint32' },
  { number: 2, name: 'runId', kind: 'bytes', length: 32 },
  { number: 3, name: 'key', kind: 'bytes', length: 32 },
  { number: 4, name: 'lastEpoch', kind: 'uint32' },
]);

export const Admission = messageBounds('Admission', [
  { number: 1, name: 'invitation', kind: 'bytes', bytes: limits.ADMISSION_BYTES_MAX },
  { number: 2, name: 'signature', kind: 'bytes', length: 64 },
  { number: 3, name: 'member', kind: 'bytes', length: 32 },
  { number: 4, name: 'firstEpoch', kind: 'uint32' },
]);

export const SignedAdmission = messageBounds('SignedAdmission', [
  { number: 1, name: 'admission', kind: 'bytes', bytes: limits.ADMISSION_BYTES_MAX },
  { number: 2, name: 'keySignature', kind: 'bytes', length: 64 },
  { number: 3, name: 'memberSignature', kind: 'bytes', length: 64 },
]);

export const SignedSeal = messageBounds('SignedSeal', [
  { number: 1, name: 'statement', kind: 'bytes', bytes: limits.SEAL_STATEMENT_BYTES_MAX },
  { number: 2, name: 'member', kind: 'bytes', length: 32 },
  { number: 3, name: 'signature', kind: 'bytes', length: 64 },
]);

export const SealEquivocation = messageBounds('SealEquivocation', [
  { number: 1, name: 'first', kind: SignedSeal },
  { number: 2, name: 'second', kind: SignedSeal },
]);

export const Gossip = messageBounds('Gossip', [
  { number: 1, name: 'update', kind: Update },
  { number: 2, name: 'announcement', kind: SignedHeader },
  { number: 3, name: 'equivocation', kind: Equivocation },
  { number: 4, name: 'amendment', kind: SignedAmendment },
  { number: 5, name: 'admission', kind: SignedAdmission },
  { number: 6, name: 'seal', kind: SignedSeal },
  { number: 7, name: 'sealEquivocation', kind: SealEquivocation },
]);

export const SealStatement = messageBounds('SealStatement', [
  { number: 1, name: 'version', kind: 'uint32' },
  { number: 2, name: 'runId', kind: 'bytes', length: 32 },
  { number: 3, name: 'epoch', kind: 'uint32' },
  { number: 4, name: 'previous', kind: 'bytes', length: 32 },
  { number: 5, name: 'contentsRoot', kind: 'bytes', length: 32 },
  { number: 6, name: 'contentsBytes', kind: 'uint32' },
  { number: 7, name: 'sumRoot', kind: 'bytes', length: 32 },
  { number: 8, name: 'updates', kind: 'uint64' },
]);

export const SealSignature = messageBounds('SealSignature', [
  { number: 1, name: 'member', kind: 'bytes', length: 32 },
  { number: 2, name: 'signature', kind: 'bytes', length: 64 },
]);

export const SealCertificate = messageBounds('SealCertificate', [
  { number: 1, name: 'statement', kind: 'bytes', bytes: limits.SEAL_STATEMENT_BYTES_MAX },
  { number: 2, name: 'signatures', kind: SealSignature, count: limits.VOTERS_MAX },
]);

export const SealedAuthor = messageBounds('SealedAuthor', [
  { number: 1, name: 'author', kind: 'bytes', length: 32 },
  { number: 2, name: 'epochs', kind: 'bytes', bytes: limits.BITMAP_BYTES_MAX },
  { number: 3, name: 'ids', kind: 'bytes', bytes: limits.SEALED_IDS_BYTES_MAX },
]);

export const SealContents = messageBounds('SealContents', [
  { number: 1, name: 'fromEpoch', kind: 'uint32' },
  { number: 2, name: 'authors', kind: SealedAuthor, count: limits.VOTERS_MAX },
]);

export const Held = messageBounds('Held', [
  { number: 1, name: 'author', kind: 'bytes', length: 32 },
  { number: 2, name: 'epochs', kind: 'bytes', bytes: limits.BITMAP_BYTES_MAX },
  { number: 3, name: 'digest', kind: 'bytes', length: 32 },
]);

export const Evicted = messageBounds('Evicted', [
  { number: 1, name: 'author', kind: 'bytes', length: 32 },
  { number: 2, name: 'fromEpoch', kind: 'uint32' },
]);

export const SealName = messageBounds('SealName', [
  { number: 1, name: 'epoch', kind: 'uint32' },
  { number: 2, name: 'statement', kind: 'bytes', length: 32 },
]);

export const Have = messageBounds('Have', [
  { number: 1, name: 'runId', kind: 'bytes', length: 32 },
  { number: 2, name: 'clockMs', kind: 'uint64' },
  { number: 3, name: 'authors', kind: Held, count: limits.AUTHORS_MAX },
  { number: 4, name: 'evicted', kind: Evicted, count: limits.EVICTED_MAX },
  { number: 5, name: 'last', kind: 'bool' },
  { number: 6, name: 'sealed', kind: SealName },
  { number: 8, name: 'amendment', kind: SignedAmendment },
  { number: 9, name: 'logDigest', kind: 'bytes', length: 32 },
  { number: 10, name: 'admissionsDigest', kind: 'bytes', length: 32 },
  { number: 11, name: 'sealsDigest', kind: 'bytes', length: 32 },
]);

export const Wanted = messageBounds('Wanted', [
  { number: 1, name: 'author', kind: 'bytes', length: 32 },
  { number: 2, name: 'epochs', kind: 'bytes', bytes: limits.BITMAP_BYTES_MAX },
]);

export const Want = messageBounds('Want', [
  { number: 1, name: 'authors', kind: Wanted, count: limits.AUTHORS_MAX },
  { number: 2, name: 'last', kind: 'bool' },
]);

export const Chunk = messageBounds('Chunk', [
  { number: 1, name: 'bytes', kind: 'bytes', bytes: limits.SYNC_CHUNK_BYTES },
  { number: 2, name: 'last', kind: 'bool' },
]);

export const End = messageBounds('End', []);

export const SyncFrame = messageBounds('SyncFrame', [
  { number: 1, name: 'have', kind: Have },
  { number: 2, name: 'want', kind: Want },
  { number: 3, name: 'chunk', kind: Chunk },
  { number: 4, name: 'equivocation', kind: Equivocation },
  { number: 5, name: 'end', kind: End },
  { number: 6, name: 'certificate', kind: SealCertificate },
  { number: 7, name: 'seal', kind: SignedSeal },
  { number: 8, name: 'sealEquivocation', kind: SealEquivocation },
  { number: 9, name: 'admission', kind: SignedAdmission },
]);

export const BlobOpen = messageBounds('BlobOpen', [
  { number: 1, name: 'runId', kind: 'bytes', length: 32 },
  { number: 2, name: 'root', kind: 'bytes', length: 32 },
]);

export const BlobOffer = messageBounds('BlobOffer', [
  { number: 1, name: 'hashes', kind: 'bytes', bytes: 131072 },
  { number: 2, name: 'held', kind: 'bytes', bytes: 512 },
]);

export const BlobWant = messageBounds('BlobWant', [{ number: 1, name: 'index', kind: 'uint32' }]);

export const BlobChunk = messageBounds('BlobChunk', [
  { number: 1, name: 'index', kind: 'uint32' },
  { number: 2, name: 'bytes', kind: 'bytes', bytes: limits.BLOB_CHUNK_BYTES },
]);

export const BlobAbsent = messageBounds('BlobAbsent', []);

export const BlobFrame = messageBounds('BlobFrame', [
  { number: 1, name: 'open', kind: BlobOpen },
  { number: 2, name: 'offer', kind: BlobOffer },
  { number: 3, name: 'want', kind: BlobWant },
  { number: 4, name: 'chunk', kind: BlobChunk },
  { number: 5, name: 'absent', kind: BlobAbsent },
]);

export const ModelFile = messageBounds('ModelFile', [
  { number: 1, name: 'name', kind: 'string', bytes: limits.MODEL_FILE_NAME_LENGTH_MAX },
  { number: 2, name: 'size', kind: 'uint64' },
  { number: 3, name: 'parts', kind: 'bytes', count: 32768, length: 32 },
]);

export const ModelFiles = messageBounds('ModelFiles', [
  { number: 1, name: 'files', kind: ModelFile, count: limits.MODEL_FILES_MAX },
]);

export const IntroduceRequest = messageBounds('IntroduceRequest', [
  { number: 1, name: 'runId', kind: 'bytes', length: 32 },
  { number: 2, name: 'manifest', kind: 'bytes', bytes: limits.MANIFEST_BYTES_MAX },
  {
    number: 3,
    name: 'addresses',
    kind: 'string',
    count: limits.ADDRESSES_MAX,
    bytes: limits.ADDRESS_BYTES_MAX,
  },
  { number: 4, name: 'admission', kind: SignedAdmission },
]);

export const RunPeer = messageBounds('RunPeer', [
  { number: 1, name: 'peerId', kind: 'string', bytes: 64 },
  {
    number: 2,
    name: 'addresses',
    kind: 'string',
    count: limits.ADDRESSES_MAX,
    bytes: limits.ADDRESS_BYTES_MAX,
  },
]);

export const RunInfo = messageBounds('RunInfo', [
  { number: 1, name: 'manifest', kind: 'bytes', bytes: limits.MANIFEST_BYTES_MAX },
  { number: 2, name: 'peers', kind: RunPeer, count: 65 },
]);

export const IntroduceResponse = messageBounds('IntroduceResponse', [
  { number: 1, name: 'runs', kind: RunInfo, count: limits.RUNS_MAX },
  { number: 2, name: 'refusal', kind: 'uint32' },
  { number: 3, name: 'admission', kind: SignedAdmission },
]);

export const ReachRequest = messageBounds('ReachRequest', [
  { number: 1, name: 'ports', kind: 'uint32', count: limits.REACH_PORTS_MAX },
]);

export const ReachResponse = messageBounds('ReachResponse', [
  { number: 1, name: 'seen', kind: 'string', bytes: 64 },
  { number: 2, name: 'ports', kind: 'uint32', count: limits.REACH_PORTS_MAX },
]);

export const Invite = messageBounds('Invite', [
  { number: 1, name: 'runId', kind: 'bytes', length: 32 },
  { number: 2, name: 'founder', kind: 'bytes', length: 32 },
  {
    number: 3,
    name: 'addresses',
    kind: 'string',
    count: limits.INVITE_ADDRESSES_MAX,
    bytes: limits.ADDRESS_BYTES_MAX,
  },
  { number: 4, name: 'invitation', kind: 'bytes', bytes: limits.ADMISSION_BYTES_MAX },
  { number: 5, name: 'signature', kind: 'bytes', length: 64 },
  { number: 6, name: 'secret', kind: 'bytes', length: 32 },
  { number: 7, name: 'swarmKey', kind: 'bytes', length: 32 },
]);
