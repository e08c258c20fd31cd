/** After a chaos run: is every store whole and equal to what its peer said, and did any process complain? */
import { readRun } from '../../node/home.js';
import { readStoredRun } from '../../node/stored-run.js';
import { DataDirectory } from '../../node/store/directory.js';
import { FileStore } from '../../node/store/file-store.js';
import type { CommandLine } from '../net/command-line.js';
import type { Site } from './site.js';

/** Lines on stderr that are in order here, and why. Anything else is a finding. */
const EXPECTED: readonly RegExp[] = [
  // Progress.
  /^epoch \d+\/\d+ /,
  /^the run is over; /,
  /^open to the network: /,
  /^loading the model and the data /,
  /^training takes about /,
  /^chaos [0-9a-f]{12}: \d+ members?$/,
  // Faults named to people; the bootstrap node is dead for most of the run.
  /^attention: /,
  /^[\d:]+ warn +cannot reach an address /,
  // A newcomer on the wrong side of a partition asks again until it is healed.
  /^(cannot reach )?\/ip4\/\S+ .+; trying again in \d+ s$/,
  // What our faults lead to.
  /^[\d:]+ warn +its gossip stream died: connecting anew /,
  /^[\d:]+ warn +the training process (died|was killed \(SIGKILL\))/,
  /^[\d:]+ warn +the training process is started once more \(reason The training process was killed \(SIGKILL\)\.\)/,
  /^[\d:]+ warn +\S+: \d+ bytes of an unfinished append at the end were dropped/,
  /^[\d:]+ warn +the known peers could not be saved .*ENOSPC/,
];

/** What `attention` says of itself when something is broken for good. */
const BROKEN_ATTENTION = /damaged|evicted|stopped training|not finite/;

/** Lines of what a process said that are no part of a healthy life. */
export function complaints(stderr: string): string[] {
  const lines = stderr.split('\n').filter((line) => line !== '');
  return lines.filter(
    (line) =>
      !EXPECTED.some((pattern) => pattern.test(line)) ||
      (line.startsWith('attention: ') && BROKEN_ATTENTION.test(line)),
  );
}

/** All complaints of these processes, with the name of each. */
export function allComplaints(
  commands: readonly { who: string; command: CommandLine }[],
): string[] {
  return commands.flatMap(({ who, command }) =>
    complaints(command.stderr).map((line) => `${who} said: ${line}`),
  );
}

/** Opens the store of a peer that has stopped, as its next start would; says what is wrong with it. */
export async function storeProblems(
  site: Site,
  expected: { sha256: string; updates: number },
): Promise<string[]> {
  const dir = site.dataDirectory;
  const stored = await readStoredRun(dir);
  const directory = new DataDirectory(dir);
  const run = await readRun(directory);
  const store = new FileStore(directory, run?.id ?? '');
  const state = await store.loadState();
  await store.loadLog(() => undefined);
  const proofs = stored.log.proofs().length;
  const seal = await store.loadSeal();
  const sum = seal === null ? null : await store.loadSum(seal.epoch);
  const { updates } = stored;
  return [
    ...(await site.damagedFiles()).map((name) => `${name} was kept aside`),
    ...store.warnings,
    ...(state === null ? ['it has no state'] : []),
    ...(proofs > 0 ? [`its log has proofs against ${proofs} peers that signed twice`] : []),
    ...(seal === null ? ['it has no seal'] : []),
    ...(seal !== null && sum === null ? [`it has no sum of its seal of epoch ${seal.epoch}`] : []),
    ...(stored.sha256 !== expected.sha256 || updates !== expected.updates
      ? [
          `it holds ${updates} updates, those before epoch ${seal?.epoch ?? 0} sealed, and adapter ${stored.sha256} ` +
            `instead of ${expected.updates} and ${expected.sha256}`,
        ]
      : []),
  ].map((problem) => `the store of peer ${site.index}: ${problem}`);
}
