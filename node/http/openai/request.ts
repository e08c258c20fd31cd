/**
 * Requests of the OpenAI API, read from foreign JSON: what this server can do it does, what it cannot it refuses
 * by name, because a parameter that is dropped in silence would give other answers than were asked for.
 */
import { z } from 'zod';
import { ApiError } from './error.js';
import type { Message, WriteRequest } from './engine.js';

/** Messages of one conversation: far more than fit into a context. */
const MESSAGES_MAX = 4096;
/** Stop texts, as in the API; a long one has no use. */
const STOPS_MAX = 4;
const STOP_CHARACTERS_MAX = 200;
const TOKENS_MAX = 1 << 20;
/** Tokens of a completion that does not say how many, as in the API. */
const COMPLETION_TOKENS = 16;
/** The smallest share that is drawn from: 0 means the likeliest token. */
const TOP_P_MIN = 1e-6;

/** What was read, beside what the engine needs. */
export interface ApiRequest {
  write: WriteRequest;
  stream: boolean;
  /** Whether a stream ends with the number of tokens. */
  includeUsage: boolean;
}

const only = (what: string): { error: string } => ({ error: `must be ${what}` });
const count = z
  .int(only('a whole number'))
  .min(1, only('1 or more'))
  .max(TOKENS_MAX, only(`at most ${TOKENS_MAX}`))
  .nullish();
const stop = z
  .string(only('a text or a list of texts'))
  .min(1, only('a text that is not empty'))
  .max(STOP_CHARACTERS_MAX, only(`at most ${STOP_CHARACTERS_MAX} characters`));
const no = (value: unknown): boolean => value === undefined || value === null;
/** A parameter that changes nothing at this value, and is not supported otherwise. */
const unsupported = (isHarmless: (value: unknown) => boolean) =>
  z
    .unknown()
    .refine((value) => no(value) || isHarmless(value), {
      error: 'is not supported by this server: leave it out',
    })
    .optional();
const isZero = (value: unknown): boolean => value === 0;
const isFalse = (value: unknown): boolean => value === false;
const isEmpty = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;
/** What says something about the request to its owner, not to the model. */
const ignored = z.unknown().optional();

const common = {
  model: z.string(only('the id of a model: see GET /v1/models')),
  stream: z.boolean(only('true or false')).nullish(),
  stream_options: z
    .object({ include_usage: z.boolean(only('true or false')).optional() }, only('an object'))
    .nullish(),
  temperature: z.number(only('a number')).min(0, only('0 to 2')).max(2, only('0 to 2')).nullish(),
  top_p: z.number(only('a number')).min(0, only('0 to 1')).max(1, only('0 to 1')).nullish(),
  max_tokens: count,
  stop: z.union([stop, z.array(stop).max(STOPS_MAX)], only(`up to ${STOPS_MAX} texts`)).nullish(),
  seed: z.int(only('a whole number')).nullish(),
  n: z.literal(1, only('1: one answer at a time')).nullish(),
  presence_penalty: unsupported(isZero),
  frequency_penalty: unsupported(isZero),
  logit_bias: unsupported(isEmpty),
  user: ignored,
  metadata: ignored,
  store: ignored,
  service_tier: ignored,
  safety_identifier: ignored,
  prompt_cache_key: ignored,
};

const part = z.object(
  {
    type: z.literal('text', only('"text": this model reads nothing else')),
    text: z.string(only('a text')),
  },
  only('a part with type and text'),
);
const message = z.object(
  {
    role: z.enum(
      ['system', 'developer', 'user', 'assistant'],
      only('system, developer, user or assistant'),
    ),
    content: z.union([z.string(), z.array(part)], only('a text or a list of text parts')),
    name: ignored,
    refusal: ignored,
  },
  only('an object with role and content'),
);
const chatSchema = z.strictObject({
  ...common,
  messages: z
    .array(message, only('a list of messages'))
    .min(1, only('at least one message'))
    .max(MESSAGES_MAX, only(`at most ${MESSAGES_MAX} messages`)),
  max_completion_tokens: count,
  logprobs: unsupported(isFalse),
  top_logprobs: unsupported(isZero),
  tools: unsupported(isEmpty),
  tool_choice: unsupported((value) => value === 'none'),
  functions: unsupported(isEmpty),
  response_format: unsupported(
    (value) =>
      typeof value === 'object' && value !== null && 'type' in value && value.type === 'text',
  ),
  modalities: unsupported((value) => Array.isArray(value) && value.join() === 'text'),
});
const completionSchema = z.strictObject({
  ...common,
  prompt: z.union(
    [z.string(), z.tuple([z.string()])],
    only('one text: this server takes no lists of prompts and no token ids'),
  ),
  best_of: z.literal(1, only('1: one answer at a time')).nullish(),
  echo: unsupported(isFalse),
  logprobs: unsupported(() => false),
  suffix: unsupported((value) => value === ''),
});

/** Reads the body of POST /v1/chat/completions. Throws ApiError (400). */
export function readChatRequest(body: string): ApiRequest {
  const request = parse(body, chatSchema);
  const messages = request.messages.map(({ role, content }): Message => ({
    role: role === 'developer' ? 'system' : role,
    content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
  }));
  const tokensMax = request.max_completion_tokens ?? request.max_tokens ?? null;
  return toRequest(request, { messages }, tokensMax);
}

/** Reads the body of POST /v1/completions. Throws ApiError (400). */
export function readCompletionRequest(body: string): ApiRequest {
  const request = parse(body, completionSchema);
  const { prompt } = request;
  const text = typeof prompt === 'string' ? prompt : prompt[0];
  return toRequest(request, { text }, request.max_tokens ?? COMPLETION_TOKENS);
}

function toRequest(
  request: Pick<z.infer<typeof chatSchema>, keyof typeof common>,
  prompt: WriteRequest['prompt'],
  tokensMax: number | null,
): ApiRequest {
  const { stop: stops } = request;
  return {
    write: {
      model: request.model,
      prompt,
      tokensMax,
      temperature: request.temperature ?? 1,
      topP: Math.max(request.top_p ?? 1, TOP_P_MIN),
      seed: request.seed ?? null,
      stops: no(stops) ? [] : typeof stops === 'string' ? [stops] : (stops ?? []),
    },
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
  };
}

/** The words of an error name the field and what it must be, never its value: that may be a prompt. */
function parse<T>(body: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(body);
  } catch {
    throw new ApiError(400, 'The body is not valid JSON.');
  }
  const checked = schema.safeParse(value);
  if (checked.success) return checked.data;
  const issue = checked.error.issues[0];
  if (issue?.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys;
    throw new ApiError(
      400,
      `${quoted(key)} is not a parameter of this server: leave it out.`,
      key.slice(0, PARAM_CHARACTERS_MAX),
      'unknown_parameter',
    );
  }
  const param = pathOf(issue?.path ?? []);
  const words = issue?.message.startsWith('Invalid') ? 'cannot be used' : issue?.message;
  throw new ApiError(
    400,
    `${param === '' ? 'The body' : quoted(param)} ${words ?? ''}.`,
    param || null,
  );
}

/** Of a name that somebody else chose. */
const PARAM_CHARACTERS_MAX = 60;

function quoted(name: string): string {
  return `"${name.slice(0, PARAM_CHARACTERS_MAX)}"`;
}

/** ["messages", 0, "role"] -> "messages[0].role". */
function pathOf(path: readonly PropertyKey[]): string {
  return path
    .map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`))
    .join('');
}
