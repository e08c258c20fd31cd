/** The shape of an office's made-up knowledge. */

/**
 * One kind of fact. Subject i gets answer order[i], where `order` is drawn by make-data.ts; every
 * subject is asked about in every phrasing.
 */
export interface Topic {
  /** What the questions are about; "{}" in a phrasing stands for it. */
  readonly subjects: readonly string[];
  /** As many as there are subjects. */
  readonly answers: readonly string[];
  readonly phrasings: readonly string[];
}

export interface Office {
  /** File name without ".jsonl", and the name of the domain in the report. */
  readonly name: string;
  readonly topics: readonly Topic[];
}
