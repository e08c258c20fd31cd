/** What hostile members say of seals: statements of nothing, votes for both sides of a split, certificates without a quorum. */
import { sha256, toHex } from '../../../protocol/bytes.js';
import { encodeSeal } from '../../../protocol/gossip.js';
import { publicKeyFromPeerId } from '../../../protocol/identity.js';
import type { Prng } from '../../../protocol/prng.js';
import { createSeal, encodeStatement, type SealStatement } from '../../../protocol/seal.js';
import * as wire from '../../../protocol/wire/messages.js';
import type { HostileMember } from './member.js';
import type { HostileAct } from './plan.js';
import { between, pick } from './settings.js';

type SealAct = Extract<HostileAct, 'seal' | 'seal-along' | 'seal-twice' | 'false-certificate'>;

/** Does one act of `kind` now, in a run that seals. */
export function actOnSeals(
  member: HostileMember,
  kind: SealAct,
  random: Prng,
  victims: readonly string[],
): void {
  if (member.run.manifest.fold.sealEvery === 0) return;
  switch (kind) {
    case 'seal':
      return tellSeal(member, invented(member, dueEpoch(member, random), random), null);
    case 'seal-along': {
      // Its weight goes to what one honest member said, of whatever epoch.
      const seal = member.seals[random.nextBelow(Math.max(1, member.seals.length))];
      return seal && tellSeal(member, seal.statement, null);
    }
    case 'seal-twice':
      return sealTwice(member, random, victims);
    case 'false-certificate':
      for (const victim of victims) void member.openSync(victim, random, 'invents-seals');
  }
}

/** Every statement that honest members made for one epoch, each told to some: it votes on all sides of a split. */
function sealTwice(member: HostileMember, random: Prng, victims: readonly string[]): void {
  const epoch = dueEpoch(member, random);
  const heard = member.seals.filter(({ statement }) => statement.epoch === epoch);
  const statements = new Map(heard.map(({ statement }) => [statement.id, statement]));
  for (let i = statements.size; i < 2; i++) {
    const other = invented(member, epoch, random);
    statements.set(other.id, other);
  }
  [...statements.values()].forEach((statement, i) => {
    const only = new Set(victims.filter((_, k) => k % statements.size === i));
    const seal = createSeal(statement, member.identity);
    member.tell(encodeSeal(seal), only);
  });
}

/** Signs a statement, unless it takes care and has signed another for that epoch. */
function tellSeal(
  member: HostileMember,
  statement: SealStatement,
  only: ReadonlySet<string> | null,
): void {
  const first = member.sealed.get(statement.epoch) ?? statement;
  member.sealed.set(statement.epoch, first);
  const chosen = member.temper === 'reckless' ? statement : first;
  member.tell(encodeSeal(createSeal(chosen, member.identity)), only);
}

/** Around the newest seal that is due: also the next, which is not. */
function dueEpoch(member: HostileMember, random: Prng): number {
  const { sealEvery, sealAfter } = member.run.manifest.fold;
  const due = Math.floor((member.epochNow - sealAfter) / sealEvery) * sealEvery;
  return Math.max(sealEvery, due + sealEvery * between(random, -1, 1));
}

/** Contents and a sum that nobody has. */
function invented(member: HostileMember, epoch: number, random: Prng): SealStatement {
  const root = toHex(sha256(Buffer.from(`${member.peerId}/${random.nextUint32()}`)));
  return encodeStatement(member.run, {
    ...{ epoch, sum: root, updates: random.nextBelow(epoch + 1) },
    previous: pick(random, [null, root, member.seals.at(-1)?.statement.id ?? null]),
    contents: { root, size: between(random, 0, 2000) },
  });
}

/** Sync frames: a certificate that its own signature, forged ones and those of others for something else make up; seals. */
export function inventedSeals(member: HostileMember, random: Prng): Uint8Array[] {
  if (member.run.manifest.fold.sealEvery === 0) return [];
  const epoch = dueEpoch(member, random);
  const held = member.sealed.get(epoch);
  const statement = held ?? invented(member, epoch, random);
  member.sealed.set(epoch, statement);
  const own = createSeal(statement, member.identity);
  const others = [...new Map(member.seals.map((seal) => [seal.member, seal])).values()];
  const signatures = [
    ...others.map(({ signed }) => ({
      member: Uint8Array.from(signed.member),
      signature: pick(random, [Uint8Array.from(signed.signature), new Uint8Array(64).fill(7)]),
    })),
    {
      member: Uint8Array.from(publicKeyFromPeerId(member.peerId)),
      signature: own.signed.signature,
    },
  ].sort((a, b) => Buffer.compare(a.member, b.member));
  const certificate = { statement: statement.bytes, signatures };
  const sealFrames = [own, ...others].map(({ signed }) => wire.SyncFrame.encode({ seal: signed }));
  // Not every session dies of a forged certificate.
  const isForged = random.nextFloat() < 0.6;
  return isForged ? [wire.SyncFrame.encode({ certificate }), ...sealFrames] : sealFrames;
}
