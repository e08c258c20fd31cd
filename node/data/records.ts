/** What a data file holds, before it is tokenised, and where it stands. */
import type { ChatContext, ChatMessage } from './chat-template.js';

/** Where a record starts: its line, from 1; of a Parquet file, which has no lines, its row. */
export interface Place {
  line: number;
  unit?: 'row';
}

/**
 * One example.
 * text: every token is trained; `endsDocument` puts an end-of-text token after it; `splitKey` is the
 * text by which it goes to one side of the held-out split.
 * completion: prompt and completion are joined as they are (the prompt ends with its own space or line
 * break, if any), an end-of-text token follows, and only the completion and that token are trained.
 * instruction: a conversation of two turns where the model has a chat template, else a prompt, an empty line and a
 * completion; `before`: the system message and earlier turns.
 * messages: rendered with the model's chat template; only what the assistant says is trained, and no turn that says no.
 */
export type DataRecord = Place &
  (
    | { kind: 'text'; text: string; endsDocument: boolean; splitKey: string }
    | { kind: 'completion'; prompt: string; completion: string }
    | { kind: 'instruction'; instruction: string; output: string; before?: ChatMessage[] }
    | { kind: 'messages'; messages: ChatMessage[]; context?: ChatContext }
  );

/** A row of a table or a JSON object: named values, not looked at. */
export interface Row extends Place {
  fields: Readonly<Record<string, unknown>>;
}

/** "notes.csv, line 7". */
export function placeText(
  file: string,
  { line, unit = 'line' }: { line: number; unit?: string },
): string {
  return `${file}, ${unit} ${line}`;
}
