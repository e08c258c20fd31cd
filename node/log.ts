/** The log on stderr: sentences for people, or one JSON object a line (pino). Never text, prompts or keys. */
import { pino } from 'pino';
import { Writable } from 'node:stream';
import type { Logger } from './interfaces.js';
import { printable, printableLine } from './printable.js';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface LoggerInit {
  level: LogLevel;
  format: LogFormat;
  /** Where the lines go; stderr by default, for stdout is for data. */
  out?: Writable;
  /** Colours for text lines. */
  colour?: boolean;
}

/** Field names whose values never reach the log, at any depth pino can name cheaply. */
const SECRET_FIELDS = ['privateKey', 'key', 'prompt', 'text', 'completion'];

/** A pino logger; `format: 'text'` prints "12:03:44 warn message (field value, ...)". */
export function createLogger(init: LoggerInit): Logger {
  const out = init.out ?? process.stderr;
  const destination =
    init.format === 'json'
      ? { write: (line: string) => void out.write(printable(line)) }
      : new TextLines(out, init.colour ?? false);
  return pino(
    {
      level: init.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET_FIELDS.flatMap((name) => [name, `*.${name}`]), remove: true },
    },
    destination,
  );
}

const COLOURS: Readonly<Record<string, string>> = { warn: '\x1b[33m', error: '\x1b[31m' };
const RESET = '\x1b[0m';

/** Turns pino's JSON lines into text lines. */
class TextLines extends Writable {
  readonly #out: Writable;
  readonly #colour: boolean;

  constructor(out: Writable, colour: boolean) {
    super({ decodeStrings: false });
    this.#out = out;
    this.#colour = colour;
  }

  override _write(chunk: string | Buffer, _encoding: string, done: () => void): void {
    for (const line of chunk.toString().split('\n')) {
      if (line !== '') this.#out.write(`${this.#format(line)}\n`);
    }
    done();
  }

  #format(line: string): string {
    const { time, level, msg, err, ...fields } = JSON.parse(line) as Record<string, unknown>;
    const clock = typeof time === 'string' ? time.slice(11, 19) : '';
    const label = typeof level === 'string' ? level : '';
    const rest = Object.entries(fields).map(([name, value]) => `${name} ${inline(value)}`);
    if (isRecord(err) && typeof err['message'] === 'string') rest.push(`error ${err['message']}`);
    const tail = rest.length === 0 ? '' : ` (${rest.join(', ')})`;
    const text = `${clock} ${label.padEnd(5)} ${typeof msg === 'string' ? msg : ''}${tail}`;
    // Some of it may come from others: nothing in it may steer the terminal.
    const plain = printableLine(text);
    const colour = this.#colour ? COLOURS[label] : undefined;
    return colour === undefined ? plain : `${colour}${plain}${RESET}`;
  }
}

function inline(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
