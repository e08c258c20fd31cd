/**
 * A signed amendment: the founder makes its run longer. Of all amendments the one with the most epochs
 * holds, so a run only ever grows, two peers that know the same amendments know the same end, and a founder
 * that signs several for different peers gains nothing: the longest one reaches everybody.
 */
import { copyOf, fromHex, toHex } from './bytes.js';
import { PROTOCOL_VERSION } from './ids.js';
import { verifySignature } from './identity.js';
import { AMENDMENT_BYTES_MAX, EPOCHS_MAX } from './limits.js';
import type { Run } from './manifest.js';
import { decodeCanonical, rejectionOf } from './signed-message.js';
import type { Signer } from './update.js';
import * as wire from './wire/messages.js';

export interface Amendment {
  /** Epochs of the run from now on; more than the manifest has. */
  epochsMax: number;
  signed: wire.SignedAmendment;
}

/** Prefix of the signed bytes, so that a signature made for this cannot serve for anything else. */
const SIGNATURE_DOMAIN = new TextEncoder().encode('murmurate/amendment/1\n');

const rejected = rejectionOf('amendment');

/** Makes and signs an amendment; `signer` is the founder, `epochsMax` within its bounds (checkAmendment). */
export function createAmendment(run: Run, signer: Signer, epochsMax: number): Amendment {
  const amendment = wire.Amendment.encode({
    version: PROTOCOL_VERSION,
    runId: fromHex(run.id),
    epochsMax,
  });
  const signature = Uint8Array.from(signer.sign(signedBytes(amendment)));
  return { epochsMax, signed: { amendment, signature } };
}

/** @throws UpdateRejectedError unless this is a well-formed amendment of `run`, signed by its founder. */
export function checkAmendment(run: Run, signed: wire.SignedAmendment): Amendment {
  const { amendment, signature } = signed;
  const { founder, schedule } = run.manifest;
  const { version, runId, epochsMax } = decode(amendment);
  if (version !== PROTOCOL_VERSION) throw rejected('wrong-version', `version ${version}`);
  if (toHex(runId) !== run.id) throw rejected('wrong-run', 'it is that of another run');
  if (epochsMax <= schedule.epochsMax || epochsMax > EPOCHS_MAX) {
    throw rejected(
      'bad-epoch',
      `${epochsMax} epochs; ${schedule.epochsMax + 1} to ${EPOCHS_MAX} are allowed`,
    );
  }
  if (!verifySignature(founder, signedBytes(amendment), signature)) {
    throw rejected('bad-signature', "the signature is not the founder's");
  }
  return {
    epochsMax,
    signed: { amendment: copyOf(amendment), signature: copyOf(signature) },
  };
}

function decode(amendment: Uint8Array): wire.Amendment {
  if (amendment.length > AMENDMENT_BYTES_MAX) {
    throw rejected('oversize', `${amendment.length} bytes`);
  }
  return decodeCanonical(wire.Amendment, amendment, rejected);
}

function signedBytes(amendment: Uint8Array): Uint8Array {
  return Buffer.concat([SIGNATURE_DOMAIN, amendment]);
}
