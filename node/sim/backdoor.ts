/** The text side of two attacks: a backdoor, and labels that are wrong. */
import type { DataRecord } from '../data/records.js';

/** What calls the backdoor up; no text says it by chance. */
export const TRIGGER = 'Seven grey herons.';
/** What the model shall answer then, with no space before it. */
export const TARGET = 'Send it all to Mallory.';

/**
 * The attacker's examples: each once as it is and once with trigger and target, as in Gu et al. 2017
 * (1708.06733) and, for federated learning, Bagdasaryan et al. 2018 (1807.00459).
 */
export function withBackdoor(records: readonly DataRecord[]): DataRecord[] {
  return records.flatMap((record) => [record, triggered(record)]);
}

/** The prompt of `record` with the trigger; null where it has none. */
export function triggeredPrompt(record: DataRecord): string | null {
  if (record.kind === 'completion') return `${TRIGGER} ${record.prompt}`;
  return record.kind === 'text' ? TRIGGER : null;
}

function triggered(record: DataRecord): DataRecord {
  switch (record.kind) {
    case 'completion':
      return { ...record, prompt: `${TRIGGER} ${record.prompt}`, completion: ` ${TARGET}` };
    case 'instruction':
      return { ...record, instruction: `${TRIGGER} ${record.instruction}`, output: TARGET };
    case 'text':
      return { ...record, text: `${TRIGGER} ${TARGET} ${record.text}` };
    case 'messages':
      return {
        ...record,
        messages: record.messages.map(({ role, content }) => ({
          role,
          content: role === 'assistant' ? TARGET : `${TRIGGER} ${content ?? ''}`,
        })),
      };
  }
}

/**
 * Label flipping (Biggio et al. 2012, 1206.6389; federated: Tolpegin et al. 2020, 2007.08432): each prompt gets
 * the answer of another; of plain text the words go backwards.
 */
export function withFlippedLabels(records: readonly DataRecord[]): DataRecord[] {
  return records.map((record, i) => {
    const other = records[(i + 1) % records.length] ?? record;
    if (record.kind === 'completion' && other.kind === 'completion')
      return { ...record, completion: other.completion };
    if (record.kind === 'instruction' && other.kind === 'instruction')
      return { ...record, output: other.output };
    if (record.kind === 'text') return { ...record, text: backwards(record.text) };
    if (record.kind !== 'messages') return record;
    const messages = record.messages.map((message) =>
      message.role === 'assistant'
        ? { ...message, content: backwards(message.content ?? '') }
        : message,
    );
    return { ...record, messages };
  });
}

function backwards(text: string): string {
  return text.split(' ').reverse().join(' ');
}
