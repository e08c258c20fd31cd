/** The config file that murmurate init writes: the answers, and what is changed most often as comments. */
import { keyOf, type OptionSpec } from '../config.js';
import { peerOptions } from './peer-options.js';
import { runOptions } from './run-options.js';

/** What the questions gave. */
export interface Answers {
  /** Absolute paths. */
  data: readonly string[];
  /** Absolute path; null for the embedded model. */
  modelDir: string | null;
  /** Whom to join: an address or an invite; null to found a run. */
  address: string | null;
  isInviteOnly: boolean;
}

/** Shown as comments, at their defaults. */
const PEER_HINTS = ['dir', 'listen', 'http', 'device', 'relay', 'upnp'] as const;
const RUN_HINTS = [
  'name',
  'epochs',
  'epochSeconds',
  'sequenceLength',
  'batchSize',
  'rank',
] as const;

/** YAML that the command line reads. */
export function configText({ data, modelDir, address, isInviteOnly }: Answers): string {
  const verb = address === null ? 'start' : 'join';
  // JSON is YAML, and its quotes keep whatever is in a path.
  const quoted = (value: string): string => JSON.stringify(value);
  const lines = [
    `# Options of murmurate ${verb}, as its flags are called: murmurate ${verb} --help lists all of them, and`,
    `# murmurate config ${verb} prints what they come to. Flags and variables like MURMURATE_EPOCHS count before this file.`,
    '',
    `# ${peerOptions.data.help}`,
    'data:',
    ...data.map((file) => `  - ${quoted(file)}`),
    '',
    ...entry('model', peerOptions.model, modelDir === null ? null : quoted(modelDir)),
  ];
  if (address !== null) lines.push('', '# whom to join', `address: ${quoted(address)}`);
  else lines.push('', ...entry('inviteOnly', runOptions.inviteOnly, String(isInviteOnly)));
  for (const name of PEER_HINTS) lines.push('', ...entry(name, peerOptions[name], null));
  const hints = address === null ? RUN_HINTS : [];
  for (const name of hints) lines.push('', ...entry(name, runOptions[name], null));
  return `${lines.join('\n')}\n`;
}

/** What an option is and its value; its default as a comment where `value` is null. */
function entry(name: string, spec: OptionSpec, value: string | null): string[] {
  const key = keyOf(name);
  const line = value === null ? `# ${key}: ${defaultText(spec)}` : `${key}: ${value}`;
  return [`# ${spec.help}`, line];
}

function defaultText(spec: OptionSpec): string {
  if (spec.kind === 'switch') return 'false';
  if (spec.kind === 'many') return `[${spec.default.map(String).join(', ')}]`;
  return spec.default === null ? spec.type.placeholder : [spec.default].map(String).join();
}
