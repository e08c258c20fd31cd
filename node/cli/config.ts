/** murmurate config: what the options of start, join or bootstrap come to, and where each value comes from. */
import Table from 'cli-table3';
import { keyOf, type OptionSpec } from '../config.js';
import type { Origin } from '../config/sources.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { INVITE_PREFIX, looksLikeInvite } from '../../protocol/invite.js';
import { jsonOption } from './peer-options.js';
import { defineVerb } from './verb.js';

/** Verbs that go on for long, so that it matters what they were told. */
const CONFIGURED = ['start', 'join', 'bootstrap'];

/** Of any option. */
type Value = string | number | boolean | null | readonly (string | number)[];

/** One option as it is printed. */
interface Row {
  option: string;
  /** Null where there is none. */
  value: Value;
  from: string;
}

export const configVerb = defineVerb({
  name: 'config',
  summary: 'Print the options of start, join or bootstrap, and where each value comes from.',
  args: [
    {
      ...{ name: 'VERB', help: `${CONFIGURED.join(', ')} (default: start)` },
      ...{ required: false, words: CONFIGURED },
    },
    { name: 'OPTIONS', help: 'flags of that verb', required: false, several: true },
  ],
  options: { ...jsonOption },
  isWrapper: true,
  isUnconfigured: true,
  example: `
$ murmurate config start --rank 4
┌─────────────────────┬────────────────────┬─────────────────────────────────┐
│ option              │ value              │ from                            │
├─────────────────────┼────────────────────┼─────────────────────────────────┤
│ dir                 │ ./murmurate-peer   │ default                         │
│ model               │ -                  │ default: the embedded tiny-base │
│ data                │ clinic.jsonl       │ murmurate.yaml:3                │
│ rank                │ 4                  │ flag                            │
│ epochs              │ 40                 │ MURMURATE_EPOCHS                │
...`,
  run: async ({ args: [name, ...rest], options, resolve, io }) => {
    const wanted = name ?? 'start';
    if (!CONFIGURED.includes(wanted)) {
      throw new UserError(
        `"${wanted}" has no configuration to print; name one of ${CONFIGURED.join(', ')}`,
        EXIT_USAGE,
      );
    }
    const { verb, values, origins } = await resolve(
      wanted,
      rest.filter((arg) => arg !== null),
    );
    const rows = Object.entries(verb.options).map(([option, spec]) => ({
      option: keyOf(option),
      value: shown(option, values[option] as Value),
      from: fromOf(spec, origins.get(option)),
    }));
    const isJson = options.json || values['json'] === true;
    io.stdout.write(isJson ? `${JSON.stringify({ verb: wanted, options: rows })}\n` : table(rows));
  },
});

function table(rows: readonly Row[]): string {
  const printed = new Table({
    head: ['option', 'value', 'from'],
    style: { head: [], border: [], compact: true },
  });
  for (const { option, value, from } of rows) {
    printed.push([
      option,
      typeof value === 'object' && value ? value.join('\n') : String(value ?? '-'),
      from,
    ]);
  }
  return `${printed.toString()}\n`;
}

function fromOf(spec: OptionSpec, origin: Origin | undefined): string {
  if (origin?.kind === 'flag') return 'flag';
  if (origin?.kind === 'variable') return origin.name;
  if (origin?.kind === 'file') return `${origin.path}:${origin.line}`;
  const note = spec.kind === 'switch' ? undefined : spec.defaultText;
  return note === undefined ? 'default' : `default: ${note}`;
}

/** A swarm key has 64 hex digits; a file that is called so is rare. */
const SWARM_KEY = /[0-9a-f]{64}/i;

/** Without what whoever looks over a shoulder could use: an invite, and a swarm key where its file belongs. */
function shown(option: string, value: Value): Value {
  if (typeof value !== 'string') return value;
  if (looksLikeInvite(value)) return `${INVITE_PREFIX}... (an invite: not shown)`;
  return option === 'swarmKey' && SWARM_KEY.test(value) ? '(a key: not shown)' : value;
}
