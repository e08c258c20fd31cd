/** Closed runs that seal, and seals and certificates of what a log holds. */
import { Fold } from '../../protocol/fold.js';
import type { UpdateLog } from '../../protocol/log.js';
import type { Manifest, Run } from '../../protocol/manifest.js';
import { SealContents } from '../../protocol/seal-contents.js';
import {
  assembleCertificate,
  createSeal,
  encodeStatement,
  hashSumSteps,
  type Seal,
  type SealCertificate,
  type SealStatement,
  type SumHashes,
} from '../../protocol/seal.js';
import { testIdentity, testRun } from './runs.js';

/** A run of members 0, 1, ... with these weights, which seals every `every` epochs, `after` epochs later. */
export function closedRun(
  weights: readonly number[] = [1, 1, 1],
  { every = 4, after = 2 } = {},
  change: (manifest: Manifest) => Manifest = (manifest) => manifest,
): Run {
  const members = weights.map((weight, i) => ({ peerId: testIdentity(i).peerId, weight }));
  return testRun((manifest) =>
    change({
      ...manifest,
      fold: { ...manifest.fold, sealEvery: every, sealAfter: after },
      membership: { mode: 'allowlist', members },
    }),
  );
}

export function hashesOf(sum: Float64Array): SumHashes {
  const steps = hashSumSteps(sum);
  let step = steps.next();
  while (step.done !== true) step = steps.next();
  return step.value;
}

/** All that goes with the statement of what `log`, which begins with epoch 0 or `base`, holds before `epoch`. */
export interface SealedLog {
  statement: SealStatement;
  contents: SealContents;
  sum: Float64Array;
}

export function sealedLog(
  run: Run,
  log: UpdateLog,
  epoch: number,
  base: SealedLog | null = null,
): SealedLog {
  const whole = new Fold(
    run,
    undefined,
    base === null ? undefined : { epoch: base.statement.epoch, sum: base.sum },
  );
  whole.compute(log);
  const later = new Fold(run, undefined, { epoch, sum: new Float64Array(whole.sum().length) });
  later.compute(log);
  const rest = later.sum();
  const sum = whole.sum().map((value, j) => value - (rest[j] ?? 0));
  const contents = SealContents.of(log, base?.contents ?? null, epoch);
  const statement = encodeStatement(run, {
    epoch,
    previous: base?.statement.id ?? null,
    contents: contents.name,
    sum: hashesOf(sum).root,
    updates: contents.updates,
  });
  return { statement, contents, sum };
}

/** Seals of members (numbers of test identities) under one statement. */
export function sealsOf(statement: SealStatement, members: readonly number[]): [Seal, ...Seal[]] {
  const [first, ...others] = members.map((i) => createSeal(statement, testIdentity(i)));
  if (first === undefined) throw new RangeError('nobody signs');
  return [first, ...others];
}

export function certificateOf(
  statement: SealStatement,
  members: readonly number[],
): SealCertificate {
  return assembleCertificate(sealsOf(statement, members));
}

/** A statement about nothing that anybody has, for what looks at signatures alone. */
export function anyStatement(
  run: Run,
  epoch: number,
  { salt = 0, previous = null as string | null } = {},
): SealStatement {
  const hash = (salt % 256).toString(16).padStart(2, '0').repeat(32);
  return encodeStatement(run, {
    ...{ epoch, previous, contents: { root: hash, size: 10 }, sum: hash, updates: 3 },
  });
}
