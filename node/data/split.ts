/**
 * The held-out split: an example's side is a function of its own content alone. Adding, removing or
 * reordering others moves nothing, duplicates land on the same side, and all machines agree. The price:
 * with few examples the held-out side may be larger or smaller than its share, or empty.
 */
import { CONTENT_HASH_RANGE, contentHash } from './content-hash.js';
import type { ChatMessage } from './chat-template.js';
import type { DataRecord } from './records.js';

/** True when the record is never trained on. `heldOutShare`: 0 (never) to 1 (always). */
export function isHeldOut(record: DataRecord, heldOutShare: number): boolean {
  return contentHash('held-out', contentOf(record)) < heldOutShare * CONTENT_HASH_RANGE;
}

/** What the record says, by which it goes to one side. */
export function contentOf(record: DataRecord): string[] {
  switch (record.kind) {
    case 'text':
      return [record.splitKey];
    case 'completion':
      return [record.prompt, record.completion];
    case 'instruction':
      return [record.instruction, record.output, ...(record.before ?? []).flatMap(wordsOf)];
    case 'messages':
      return record.messages.flatMap(wordsOf);
  }
}

/** Role and content, and what a turn says beside them. */
function wordsOf({ role, content, ...fields }: ChatMessage): string[] {
  const more = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return [role, content ?? '', ...(more.length === 0 ? [] : [JSON.stringify(more)])];
}
