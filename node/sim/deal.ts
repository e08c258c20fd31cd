/** Deals the examples of data files to simulated peers: each gets a file of its own. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Prng } from '../../protocol/prng.js';
import type { ChatMessage } from '../data/chat-template.js';
import { USUAL_COLUMNS, type ColumnNames } from '../data/columns.js';
import { readRecords } from '../data/readers.js';
import type { DataRecord } from '../data/records.js';
import { findDataFiles } from '../data/sources.js';
import { UserError } from '../errors.js';

/**
 * lines: the examples of all files are shuffled and dealt like cards, so that all peers have the same kind of
 * text. files: the peers take files in turn, and those that have the same file share its examples.
 */
export const DEALS = ['lines', 'files'] as const;
export type Deal = (typeof DEALS)[number];

/** Examples by peer. Throws UserError where a file cannot be read or a peer would get none. */
export async function dealRecords(
  paths: readonly string[],
  peers: number,
  deal: Deal,
  seed: Uint8Array,
  columns: ColumnNames = USUAL_COLUMNS,
): Promise<DataRecord[][]> {
  const hands = Array.from({ length: peers }, (): DataRecord[] => []);
  const records: DataRecord[][] = [];
  for (const file of (await findDataFiles(paths)).files) {
    const own: DataRecord[] = [];
    for await (const record of readRecords(file, { columns })) own.push(record);
    records.push(own);
  }
  const random = new Prng(seed, 'deal');
  const decks = deal === 'lines' ? [records.flat()] : records;
  for (const [i, deck] of decks.entries()) {
    const takers = hands.filter((_, peer) => peer % decks.length === i);
    for (const [k, index] of random.permutation(deck.length).entries()) {
      const record = deck[index];
      if (record !== undefined) takers[k % takers.length]?.push(record);
    }
  }
  if (hands.every((hand) => hand.length > 0)) return hands;
  throw new UserError(
    `${paths.join(', ')}: too few examples for ${peers} peers: give more text, or fewer --peers`,
  );
}

/** Writes `records` as a data file of their own in `dir`; returns its path. */
export async function writeHand(
  dir: string,
  name: string,
  records: readonly DataRecord[],
): Promise<string> {
  const path = join(dir, `${name}.jsonl`);
  await writeFile(path, records.map((record) => `${JSON.stringify(lineOf(record))}\n`).join(''));
  return path;
}

function lineOf(record: DataRecord): object {
  switch (record.kind) {
    case 'text':
      return { text: record.text };
    case 'completion':
      return { prompt: record.prompt, completion: record.completion };
    case 'instruction':
      return {
        instruction: record.instruction,
        output: record.output,
        ...columnsBefore(record.before ?? []),
      };
    case 'messages': {
      const { variables, ...context } = record.context ?? {};
      const more = variables === undefined ? {} : { chat_template_kwargs: variables };
      return { messages: record.messages, ...context, ...more };
    }
  }
}

/** A system message and questions with their answers, as the columns that they came from. */
function columnsBefore(before: readonly ChatMessage[]): object {
  const system = before.find(({ role }) => role === 'system')?.content;
  const said = before.filter(({ role }) => role !== 'system').map(({ content }) => content);
  const history = said.flatMap((text, i) => (i % 2 === 0 ? [[text, said[i + 1]]] : []));
  return { ...(system !== undefined && { system }), ...(history.length > 0 && { history }) };
}
