/** Messages of hostile members: well-formed and signed unless their kind says otherwise. */
import {
  createAdmission,
  createInvitation,
  oneTimeSigner,
  type Admission,
} from '../../../protocol/admission.js';
import { createAmendment } from '../../../protocol/amendment.js';
import { sha256, toHex } from '../../../protocol/bytes.js';
import {
  encodeAdmission,
  encodeAmendment,
  encodeAnnouncement,
  encodeEquivocation,
  encodeUpdateMessage,
} from '../../../protocol/gossip.js';
import { EPOCHS_MAX } from '../../../protocol/limits.js';
import { equivocationProof, type EquivocationProof } from '../../../protocol/equivocation.js';
import type { Run } from '../../../protocol/manifest.js';
import { Prng } from '../../../protocol/prng.js';
import { quantise } from '../../../protocol/quantise.js';
import { bodyBytes } from '../../../protocol/row-format.js';
import { createUpdate, type Signer, type Update } from '../../../protocol/update.js';
import { testIdentity, testUpdate } from '../../support/runs.js';
import type { HostileMember } from './member.js';
import type { HostileAct } from './plan.js';
import { actOnSeals } from './seal-lies.js';
import { between, pick } from './settings.js';

/** The largest finite binary16, little-endian. */
const SCALE_MAX = [0xff, 0x7b] as const;
/** Scales that no peer may take: NaN, infinity, negative. */
const BAD_SCALES = [
  [0x00, 0x7e],
  [0x00, 0x7c],
  [0x00, 0x80],
] as const;

interface UpdateFields {
  epoch: number;
  baseEpoch?: number;
  steps?: number;
  salt?: string;
  /** Bytes of every scale; drawn by default. */
  scale?: readonly [number, number] | null;
}

/** An update of `member` (or of another signer) with contents that `salt` names. */
export function makeUpdate(
  member: HostileMember,
  { epoch, baseEpoch = epoch, steps = 8, salt = '', scale = null }: UpdateFields,
  signer: Signer = member.identity,
): Update {
  const { run } = member;
  const format = member.formats.at(epoch);
  const random = new Prng(sha256(Buffer.from(`${signer.peerId}/${epoch}/${salt}`)), 'contents');
  const values = Float64Array.from(
    { length: format.coordinates },
    () => 2 * random.nextFloat() - 1,
  );
  const body = quantise(values, format);
  if (scale !== null) {
    for (let i = 0; i < body.scales.length; i++) body.scales[i] = scale[i & 1] ?? 0;
  }
  const logDigest = sha256(Buffer.from(salt));
  const update = createUpdate(run, signer, { epoch, baseEpoch, steps, logDigest, ...body });
  return update;
}

/** Two signed headers of a key that was made for this. */
export function throwAwayProof(run: Run, label: string): EquivocationProof {
  const identity = testIdentity(0, `throw-away/${label}`);
  const [first, second] = ['a', 'b'].map((salt) => testUpdate(run, identity, 0, { salt }));
  if (!first || !second) throw new RangeError('two updates');
  return equivocationProof(first, second);
}

/** Does one act of `kind` now; `victims`: the honest peers. */
export function act(
  member: HostileMember,
  kind: HostileAct,
  random: Prng,
  victims: readonly string[],
): void {
  const epoch = Math.max(0, member.epochNow);
  const salt = String(random.nextUint32());
  const tell = (message: Uint8Array): void => member.tell(message, audience(random, victims));
  const send = (fields: UpdateFields): void => {
    const update = member.sign(fields.epoch, () => makeUpdate(member, { salt, ...fields }));
    tell(encodeUpdateMessage(update));
  };
  switch (kind) {
    case 'update': {
      send({ epoch, salt: 'usual' });
      return;
    }
    case 'equivocate': {
      equivocate(member, random, victims, epoch);
      return;
    }
    case 'back-date': {
      send({ epoch: random.nextBelow(epoch + 1), salt: pick(random, ['usual', salt]) });
      return;
    }
    case 'future-date': {
      send({ epoch: futureEpoch(member, random, epoch) });
      return;
    }
    case 'wrong-base': {
      send({ epoch, baseEpoch: pick(random, [0, Math.max(0, epoch - 1), epoch + 1]) });
      return;
    }
    case 'extreme': {
      send({ epoch, scale: SCALE_MAX, steps: pick(random, [1, 1_000_000]) });
      return;
    }
    case 'malformed': {
      tell(malformed(member, random, epoch, salt));
      return;
    }
    case 'own-proof': {
      const [a, b] = ['a', 'b'].map((s) => makeUpdate(member, { epoch, salt: `${salt}${s}` }));
      if (a && b) tell(encodeEquivocation(equivocationProof(a, b)));
      return;
    }
    case 'throw-away-proofs':
      for (let i = between(random, 1, 8); i > 0; i--) {
        tell(encodeEquivocation(throwAwayProof(member.run, `${salt}/${i}`)));
      }
      return;
    case 'announce': {
      announce(member, random, victims, epoch);
      return;
    }
    case 'replay':
      for (let i = 0; i < 10 && member.heard.length > 0; i++) tell(pick(random, member.heard));
      return;
    case 'sync':
      for (const victim of victims) void member.openSync(victim, random);
      return;
    case 'seal':
    case 'seal-along':
    case 'seal-twice':
    case 'false-certificate': {
      actOnSeals(member, kind, random, victims);
      return;
    }
    case 'admit': {
      tell(encodeAdmission(falseAdmission(member, random, epoch, salt)));
      return;
    }
    case 'amend': {
      const epochs = member.run.manifest.schedule.epochsMax + between(random, 1, 50);
      tell(encodeAmendment(createAmendment(member.run, member.identity, epochs)));
      return;
    }
  }
}

/** All, every other one, or a single one: the others hear nothing of it, or something else. */
function audience(random: Prng, victims: readonly string[]): ReadonlySet<string> | null {
  const parity = random.nextBelow(2);
  return pick(random, [
    null,
    new Set(victims.filter((_, i) => i % 2 === parity)),
    new Set([pick(random, victims)]),
  ]);
}

/** Two or three updates for one slot, each to other peers: stories that contradict each other. */
function equivocate(
  member: HostileMember,
  random: Prng,
  victims: readonly string[],
  epoch: number,
): void {
  const stories = between(random, 2, 3);
  for (let story = 0; story < stories; story++) {
    const update = makeUpdate(member, { epoch, salt: `story ${story}` });
    member.remember(update);
    const only = new Set(victims.filter((_, i) => i % stories === story));
    const isAnnounced = random.nextFloat() < 0.15;
    member.tell((isAnnounced ? encodeAnnouncement : encodeUpdateMessage)(update), only);
  }
}

/** A body that nobody has, or that it gives as its mood is when it is asked. */
function announce(
  member: HostileMember,
  random: Prng,
  victims: readonly string[],
  epoch: number,
): void {
  for (let i = between(random, 1, 4); i > 0; i--) {
    const past = random.nextBelow(epoch + 1);
    const update = member.sign(past, () => makeUpdate(member, { epoch: past, salt: 'usual' }));
    if (random.nextFloat() < 0.4) member.bodies.delete(toHex(update.bodyRoot));
    member.tell(encodeAnnouncement(update), audience(random, victims));
  }
}

/** From the next slot to the end of all runs. */
function futureEpoch(member: HostileMember, random: Prng, epoch: number): number {
  const { epochsMax } = member.run.manifest.schedule;
  return pick(random, [epoch + 1, epoch + 2, epochsMax - 1, epochsMax, EPOCHS_MAX - 1]);
}

/** Against a rule: each must be refused, but for one in open runs. */
function malformed(member: HostileMember, random: Prng, epoch: number, salt: string): Uint8Array {
  const { run } = member;
  switch (random.nextBelow(6)) {
    case 0:
      return encodeUpdateMessage(
        makeUpdate(member, { epoch, salt, scale: pick(random, BAD_SCALES) }),
      );
    case 1:
      return encodeUpdateMessage(makeUpdate(member, { epoch, salt, steps: 0 }));
    case 2: {
      const { scales, codes } = bodyBytes(member.formats.at(epoch));
      const body = { scales: new Uint8Array(scales + 2), codes: new Uint8Array(codes) };
      const fields = { epoch, baseEpoch: epoch, steps: 8, logDigest: new Uint8Array(32) };
      return encodeUpdateMessage(createUpdate(run, member.identity, { ...fields, ...body }));
    }
    case 3: {
      // In the name of another, whose key it does not have.
      const other = member.updates.find(({ author }) => author !== member.peerId);
      const signer = { peerId: other?.author ?? member.peerId, sign: () => new Uint8Array(64) };
      return encodeUpdateMessage(makeUpdate(member, { epoch, salt }, signer));
    }
    case 4:
      // Of nobody: in an open run that is somebody.
      return encodeUpdateMessage(makeUpdate(member, { epoch, salt }, testIdentity(0, salt)));
    default:
      return encodeUpdateMessage(makeUpdate(member, { epoch, salt, baseEpoch: epoch + 1 }));
  }
}

/** Of a peer that it made up: by its own invitation once more, or by one that the founder never signed. */
function falseAdmission(
  member: HostileMember,
  random: Prng,
  epoch: number,
  salt: string,
): Admission {
  const { run } = member;
  const { invited } = member;
  if (invited !== null && member.temper === 'reckless' && random.nextFloat() < 0.3) {
    const second = testIdentity(0, `made-up/${salt}`);
    return createAdmission(invited.invitation, invited.oneTime, second, 0);
  }
  const oneTime = oneTimeSigner(sha256(Buffer.from(salt)));
  const invitation = createInvitation(run, member.identity, oneTime, epoch + 10);
  const who = pick(random, [member.identity, testIdentity(0, `made-up/${salt}`)]);
  return createAdmission(invitation, oneTime, who, random.nextBelow(epoch + 11));
}
