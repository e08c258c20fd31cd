/** docs/CLI.md from the option objects: every verb with its options, and how file and environment call them. */
import type { Verb } from '../../node/cli/verb.js';
import { flagOf, keyOf, type OptionSpec } from '../../node/config.js';
import { isShared, sharedOptions, variableOf } from '../../node/config/sources.js';

const INTRODUCTION = `# Command line

Written by \`npm run generate:cli\` from the options that the program itself reads; change those, not this file.

## Where an option comes from

Each option can be a flag, a variable of the environment, or a key of a config file. Where more than one says something, the flag counts before the
variable, the variable before the file, and the file before the default. All are read by the same rules, and what is wrong is told with its flag, its
value, and where it stands. \`murmurate config start\` prints what they come to, and who set each value; \`murmurate init\` writes a first file.

- **The config file** is \`./murmurate.yaml\`, or the one of \`--config FILE\` or \`MURMURATE_CONFIG\`; with \`none\` instead of a file there is none. It is YAML: a key is the flag
  without its dashes, a switch is \`true\` or \`false\`, several values are a list. A file that holds an invite must be yours alone (\`chmod 600\`).
- **A variable** has the name of the option in capitals after \`MURMURATE_\`. Several values are separated by commas. An empty variable is not set.
- **What stands alone** (\`epochs: 40\`, \`MURMURATE_EPOCHS=40\`) goes to start and join, and to every verb that shares the option with them. What a verb has for itself stands below
  its name, and its variable has that name in it (\`MURMURATE_EVAL_SEQUENCE_LENGTH\`). Below its name a verb can also be given something else than the others:

\`\`\`yaml
# murmurate.yaml
data: [notes.jsonl, letters.txt]
epochs: 40
device: cpu
relay: true
eval:
  sequence-length: 256
\`\`\`

- **Paths** in a file and in variables are those of the working directory, as in flags.
- A key or variable that is no option is refused, with the nearest one that is.
`;

/** The whole document. */
export function cliReference(verbs: readonly Verb[]): string {
  const shared = { ...sharedOptions(verbs) };
  const list = verbs.map(({ name, summary }) => `| [${name}](#murmurate-${name}) | ${summary} |`);
  return [
    INTRODUCTION,
    `## Verbs\n\n| verb | what it does |\n|---|---|\n${list.join('\n')}\n`,
    ...verbs.map((verb) => section(verb, shared)),
  ].join('\n');
}

function section(verb: Verb, shared: Readonly<Record<string, OptionSpec>>): string {
  const { name, summary, args, options, example, isUnconfigured } = verb;
  const shape = args.map(({ name: arg, required, several }) => {
    const words = several === true ? `${arg}...` : arg;
    return required ? words : `[${words}]`;
  });
  const usage = ['murmurate', name, ...shape, '[OPTIONS]'].join(' ');
  const positional = args.map(({ name: arg, help }) => `- \`${arg}\`: ${help}`);
  const rows = Object.entries(options).map(([option, spec]) => {
    const isAlone = isShared(shared, option, spec);
    const key = isAlone ? keyOf(option) : `${name}: ${keyOf(option)}`;
    const variable = variableOf(option, isAlone ? null : name);
    const elsewhere = isUnconfigured === true ? '- | -' : `\`${key}\` | \`${variable}\``;
    const flag = `\`${flagOf(option)}${valueText(spec)}\``;
    return `| ${[flag, help(spec), defaultText(spec)].map(cell).join(' | ')} | ${elsewhere} |`;
  });
  const head = '| option | what it is | default | in the file | variable |\n|---|---|---|---|---|';
  return [
    `## murmurate ${name}\n\n${summary}\n\n\`${usage}\`\n`,
    ...(positional.length > 0 ? [`${positional.join('\n')}\n`] : []),
    ...(rows.length > 0 ? [`${head}\n${rows.join('\n')}\n`] : []),
    `\`\`\`sh-session\n${example.trim()}\n\`\`\`\n`,
  ].join('\n');
}

/** A bar would begin the next cell. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

/** What goes without saying, or stands beside the flag. */
const UNTOLD = /^(a text that is not empty|one of .*)$/;

/** What it is, and which values it takes. */
function help(spec: OptionSpec): string {
  if (spec.kind === 'switch' || UNTOLD.test(spec.type.expected)) return spec.help;
  return `${spec.help} (${spec.type.expected})`;
}

function valueText(spec: OptionSpec): string {
  if (spec.kind === 'switch') return '';
  return ` ${spec.type.placeholder}${spec.kind === 'many' ? '...' : ''}`;
}

function defaultText(spec: OptionSpec): string {
  if (spec.kind === 'switch') return 'off';
  if (spec.defaultText !== undefined) return spec.defaultText;
  const values = spec.kind === 'many' ? spec.default : [spec.default ?? ''];
  const words = values.map(String).join(' ');
  return words === '' ? '-' : `\`${words}\``;
}
