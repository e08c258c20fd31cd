/** What a data file holds, before it is tokenised. */
import type { ChatMessage } from './chat-template.js';

/**
 * One example. `line` counts from 1 and is where it starts in its file.
 * text: every token is trained; `endsDocument` puts an end-of-text token after it; `splitKey` is the
 * text by which it goes to one side of the held-out split.
 * completion: prompt and completion are joined as they are (the prompt ends with its own space or line
 * break, if any), an end-of-text token follows, and only the completion and that token are trained.
 * messages: rendered with the model's chat template; only what the assistant says is trained.
 */
export type DataRecord = { line: number } & (
  | { kind: 'text'; text: string; endsDocument: boolean; splitKey: string }
  | { kind: 'completion'; prompt: string; completion: string }
  | { kind: 'messages'; messages: ChatMessage[] }
);
