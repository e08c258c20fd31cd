/** Held-out lines of an office to ask by eye: the first of each kind of fact, no hand-picking. */
import { isHeldOut } from '../../node/data/split.js';
import { officeExamples, SEED, type Example } from './make-data.js';
import type { Office } from './offices/office.js';

/** Share of the lines that peers keep aside: the default of `--held-out`. */
const HELD_OUT_SHARE = 0.1;

/** The lines that no peer trains on, in file order. */
export function heldOutExamples(office: Office): Example[] {
  return officeExamples(office, SEED).filter((example, i) =>
    isHeldOut({ kind: 'completion', line: i + 1, ...example }, HELD_OUT_SHARE),
  );
}

/** The first held-out line of each topic, in the order of the topics, at most `count`. */
export function questionsOf(office: Office, count: number): Example[] {
  const heldOut = heldOutExamples(office);
  return office.topics
    .flatMap(({ answers }) => {
      const found = heldOut.find(({ completion }) => answers.includes(completion.trim()));
      return found === undefined ? [] : [found];
    })
    .slice(0, count);
}
