/** Manifest <-> canonical bytes. A run id names bytes, so bytes that encode differently are refused. */
import type { BlobName } from './blob.js';
import { InvalidManifestError, messageOf } from './errors.js';
import { bytesEqual, copyOf, fromHex, sha256, toHex } from './bytes.js';
import { PROTOCOL_VERSION } from './ids.js';
import { peerIdFromPublicKey, publicKeyFromPeerId } from './identity.js';
import { MANIFEST_BYTES_MAX } from './limits.js';
import { checkManifest } from './manifest-rules.js';
import {
  CODECS,
  type Compression,
  type FoldRule,
  type Manifest,
  type Membership,
  type Run,
} from './manifest.js';
import * as wire from './wire/messages.js';

/** Enumerations on the wire; 0 is never a valid value, so that a missing field is noticed. Codecs: place in CODECS + 1. */
const FOLD_MODES = { mean: 1, robust: 2, filtered: 3 } as const;
const MEMBERSHIP_MODES = { open: 1, allowlist: 2, invite: 3 } as const;

/** @throws InvalidManifestError when a field is out of its bounds. */
export function encodeManifest(manifest: Manifest): Run {
  checkManifest(manifest);
  const bytes = wire.Manifest.encode(toWire(manifest));
  if (bytes.length > MANIFEST_BYTES_MAX) {
    throw new InvalidManifestError(
      `the manifest has ${bytes.length} bytes; at most ${MANIFEST_BYTES_MAX} are allowed`,
    );
  }
  return { id: toHex(sha256(bytes)), manifest, bytes };
}

/** @throws InvalidManifestError when `bytes` are too long, malformed, not canonical or out of bounds. */
export function decodeManifest(bytes: Uint8Array): Run {
  if (bytes.length > MANIFEST_BYTES_MAX) {
    throw new InvalidManifestError(
      `a manifest of ${bytes.length} bytes is over the limit of ${MANIFEST_BYTES_MAX}`,
    );
  }
  let message: wire.Manifest;
  try {
    message = wire.Manifest.decode(bytes);
  } catch (cause) {
    throw new InvalidManifestError(`the manifest is not valid: ${messageOf(cause)}`, { cause });
  }
  if (message.version !== PROTOCOL_VERSION) {
    throw new InvalidManifestError(
      `the run uses protocol version ${message.version}, this program ${PROTOCOL_VERSION}; ` +
        'install the version of murmurate that the founder uses',
    );
  }
  const run = encodeManifest(fromWire(message));
  if (!bytesEqual(run.bytes, bytes)) {
    throw new InvalidManifestError('the manifest is not in canonical form');
  }
  return run;
}

function toWire(manifest: Manifest): wire.Manifest {
  const { model, adapter, compression, fold, membership } = manifest;
  return {
    version: PROTOCOL_VERSION,
    name: manifest.name,
    founder: publicKeyFromPeerId(manifest.founder),
    model: {
      name: model.name,
      architecture: model.architecture,
      configSha256: fromHex(model.configSha256),
      weightsSha256: fromHex(model.weightsSha256),
      tokenizerSha256: fromHex(model.tokenizerSha256),
      filesRoot: fromHex(model.files?.root ?? ''),
      filesBytes: model.files?.size ?? 0,
    },
    adapter: {
      rank: adapter.rank,
      alpha: adapter.alpha,
      seed: copyOf(adapter.seed),
      targetModules: [...adapter.targetModules],
      modules: [...adapter.modules],
      initialSha256: fromHex(adapter.initialSha256),
      initialRoot: fromHex(adapter.initialRoot ?? ''),
    },
    schedule: manifest.schedule,
    training: manifest.training,
    compression: { codec: CODECS.indexOf(compression.codec) + 1 },
    fold: { ...fold, mode: FOLD_MODES[fold.mode], alpha: [...fold.alpha] },
    membership: {
      mode: MEMBERSHIP_MODES[membership.mode],
      members:
        membership.mode === 'open'
          ? []
          : membership.members.map(({ peerId, weight }) => ({
              publicKey: publicKeyFromPeerId(peerId),
              weight,
            })),
      inviteWeight: membership.mode === 'invite' ? membership.inviteWeight : 0,
    },
  };
}

function fromWire(message: wire.Manifest): Manifest {
  const { model, adapter, compression, fold } = message;
  const { schedule, training, membership } = message;
  if (!model || !adapter || !schedule || !training || !compression || !fold || !membership) {
    throw new InvalidManifestError('the manifest lacks a section');
  }
  return {
    name: message.name,
    founder: peerId(message.founder),
    model: {
      name: model.name,
      architecture: model.architecture,
      configSha256: toHex(model.configSha256),
      weightsSha256: toHex(model.weightsSha256),
      tokenizerSha256: toHex(model.tokenizerSha256),
      files: filesFromWire(model),
    },
    adapter: {
      ...{ rank: adapter.rank, alpha: adapter.alpha, seed: copyOf(adapter.seed) },
      ...{ targetModules: adapter.targetModules, modules: adapter.modules },
      initialSha256: toHex(adapter.initialSha256),
      ...(adapter.initialRoot.length > 0 && { initialRoot: toHex(adapter.initialRoot) }),
    },
    schedule,
    training,
    compression: { codec: codecFromWire(compression.codec) },
    fold: { ...fold, mode: foldModeFromWire(fold.mode) },
    membership: membershipFromWire(membership),
  };
}

/** Half a name is none, and refused with the rest that is out of bounds. */
function filesFromWire({ filesRoot, filesBytes }: wire.Model): BlobName | null {
  if (filesRoot.length === 0 && filesBytes === 0) return null;
  return { root: toHex(filesRoot), size: filesBytes };
}

function codecFromWire(codec: number): Compression['codec'] {
  const known = CODECS[codec - 1];
  if (known !== undefined) return known;
  throw new InvalidManifestError(
    `the run uses codec ${codec}, which this program does not know; install a newer version`,
  );
}

function foldModeFromWire(mode: number): FoldRule['mode'] {
  if (mode === FOLD_MODES.mean) return 'mean';
  if (mode === FOLD_MODES.robust) return 'robust';
  if (mode === FOLD_MODES.filtered) return 'filtered';
  throw new InvalidManifestError(
    `the run folds in mode ${mode}, which this program does not know; install a newer version`,
  );
}

function membershipFromWire({ mode, members, inviteWeight }: wire.Membership): Membership {
  const isInvite = mode === MEMBERSHIP_MODES.invite;
  if (!isInvite && inviteWeight !== 0) {
    throw new InvalidManifestError('a run without invitations has a weight for the invited');
  }
  if (mode === MEMBERSHIP_MODES.open) {
    if (members.length > 0) throw new InvalidManifestError('an open run lists no members');
    return { mode: 'open' };
  }
  if (mode !== MEMBERSHIP_MODES.allowlist && !isInvite) {
    throw new InvalidManifestError(
      `the run admits members in mode ${mode}, which this program does not know; install a newer version`,
    );
  }
  const listed = members.map(({ publicKey, weight }) => ({ peerId: peerId(publicKey), weight }));
  return isInvite
    ? { mode: 'invite', members: listed, inviteWeight }
    : { mode: 'allowlist', members: listed };
}

function peerId(publicKey: Uint8Array): string {
  if (publicKey.length !== 32) {
    throw new InvalidManifestError(`the manifest holds a public key of ${publicKey.length} bytes`);
  }
  return peerIdFromPublicKey(publicKey);
}
