/**
 * Completion for shells, written from the verbs as data. The scripts start no process: all words are in them. What is no
 * flag and none of a few words is left to the shell, which completes paths.
 */
import { flagOf, type OptionSpec } from '../config.js';
import type { Verb } from './verb.js';

export const SHELLS = ['bash', 'zsh', 'fish'] as const;
export type Shell = (typeof SHELLS)[number];

/** A flag as a shell sees it. */
interface Flag {
  /** With its dashes. */
  flag: string;
  help: string;
  /** Whether it may be repeated, and takes one value or more. */
  several: boolean;
  /** Null for a switch; `words` is empty where values are no words. */
  value: { placeholder: string; words: readonly string[] } | null;
}

/** What --help says of itself, and --config: the two that are no options of a verb. */
const HELP: Flag = { flag: '--help', help: 'display help', several: false, value: null };
const CONFIG: Flag = {
  ...{ flag: '--config', help: 'options in YAML', several: false },
  value: { placeholder: 'FILE', words: [] },
};

function flagsOf({ options, isUnconfigured }: Verb): Flag[] {
  const own = Object.entries(options).map(([name, spec]: [string, OptionSpec]): Flag => {
    const { help, kind } = spec;
    const value =
      spec.kind === 'switch'
        ? null
        : { placeholder: spec.type.placeholder, words: spec.type.words ?? [] };
    return { flag: flagOf(name), help, several: kind === 'many', value };
  });
  return [...own, ...(isUnconfigured === true ? [] : [CONFIG]), HELP];
}

/** Verbs whose first argument is another verb, the flags of which follow: `config start --rank`. */
function wrappers(verbs: readonly Verb[]): string[] {
  return verbs.filter(({ isWrapper }) => isWrapper === true).map(({ name }) => name);
}

/** In single quotes, as all three shells read them; fish reads a backslash in them, which no text here has. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

function names(verbs: readonly Verb[]): string {
  return verbs.map(({ name }) => name).join(' ');
}

function bash(verbs: readonly Verb[]): string {
  const byWords = new Map<string, string[]>();
  for (const verb of verbs) {
    for (const { flag, value } of flagsOf(verb)) {
      if (value === null || value.words.length === 0) continue;
      const words = value.words.join(' ');
      byWords.set(words, [...(byWords.get(words) ?? []), `'${verb.name} ${flag}'`]);
    }
  }
  const values = [...byWords].map(
    ([words, at]) => `    ${at.join(' | ')}) words=${quoted(words)} ;;`,
  );
  const flags = verbs.map(
    (verb) =>
      `    ${verb.name}) words=${quoted(
        flagsOf(verb)
          .map(({ flag }) => flag)
          .join(' '),
      )} ;;`,
  );
  const places = verbs.flatMap(({ name, args }) =>
    args.flatMap(({ words }, i) =>
      words === undefined ? [] : [`    '${name} ${i + 1}') words=${quoted(words.join(' '))} ;;`],
    ),
  );
  return `# murmurate for bash: "murmurate completion bash" wrote it.
_murmurate() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" before="\${COMP_WORDS[COMP_CWORD - 1]}" at=1 words=''
  # --flag=value is three words to bash.
  if [[ $cur == = ]]; then cur=''
  elif [[ $before == = ]]; then before="\${COMP_WORDS[COMP_CWORD - 2]}"; fi
  case "\${COMP_WORDS[1]}" in
    ${wrappers(verbs).join(' | ')}) if ((COMP_CWORD > 2)); then at=2; fi ;;
  esac
  local verb="\${COMP_WORDS[at]}"
  if ((COMP_CWORD == 1)); then words=${quoted(`${names(verbs)} --help --version`)}
  else case "$verb $before" in
${values.join('\n')}
  esac; fi
  if [[ -z $words && $cur == -* ]]; then case "$verb" in
${flags.join('\n')}
  esac; fi
  if [[ -z $words ]]; then case "$verb $((COMP_CWORD - at))" in
${places.join('\n')}
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o bashdefault -o default -F _murmurate murmurate
`;
}

/** Placeholders of what lies on a disk. */
const PATHS = /\b(FILE|DIR)\b/;

/** What zsh does for a value: ":message:action". */
function zshValue(placeholder: string, words: readonly string[]): string {
  const message = placeholder.replaceAll(':', '\\:');
  const action =
    words.length > 0 ? `(${words.join(' ')})` : PATHS.test(placeholder) ? '_files' : '()';
  return `:${message}:${action}`;
}

function zshFlag({ flag, help, several, value }: Flag): string {
  const about = `[${help.replaceAll(/[[\]]/g, '\\$&')}]`;
  if (value === null) return quoted(`${flag}${about}`);
  return quoted(`${several ? '*' : ''}${flag}${about}${zshValue(value.placeholder, value.words)}`);
}

function zsh(verbs: readonly Verb[]): string {
  const about = verbs.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`);
  const cases = verbs.map((verb) => {
    const places = verb.args.map(({ name, words = [], several }, i) =>
      quoted(`${several === true ? '*' : i + 1}${zshValue(name, words)}`),
    );
    const flags = flagsOf(verb);
    // Further values of a flag that takes several look like arguments to zsh.
    const isOpen =
      flags.some(({ several }) => several) && !verb.args.some(({ several }) => several);
    const specs = [...flags.map(zshFlag), ...places, ...(isOpen ? ["'*: :_files'"] : [])];
    const lines = specs.map((spec) => `      ${spec}`);
    return `    ${verb.name}) _arguments \\\n${lines.join(' \\\n')} ;;`;
  });
  return `#compdef murmurate
# murmurate for zsh: "murmurate completion zsh" wrote it.
_murmurate() {
  local -a verbs=(
${about.join('\n')}
  )
  if ((CURRENT == 2)); then
    _describe -t verbs verb verbs
    return
  fi
  shift words
  ((CURRENT--))
  case $words[1] in
    ${wrappers(verbs).join(' | ')}) if ((CURRENT > 2)); then shift words; ((CURRENT--)); fi ;;
  esac
  case $words[1] in
${cases.join('\n')}
  esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _murmurate "$@"; else compdef _murmurate murmurate; fi
`;
}

function fish(verbs: readonly Verb[]): string {
  const first = verbs.map(
    ({ name, summary }) =>
      `complete -c murmurate -f -n __murmurate_first -a ${name} -d ${quoted(summary)}`,
  );
  const rest = verbs.flatMap((verb) => {
    const begin = `complete -c murmurate -n '__murmurate_verb ${verb.name}'`;
    const flags = flagsOf(verb).map(({ flag, help, value }) => {
      const about = `-l ${flag.slice(2)} -d ${quoted(help)}`;
      if (value === null) return `${begin} ${about}`;
      const { words } = value;
      return `${begin} ${about} ${words.length > 0 ? `-x -a ${quoted(words.join(' '))}` : '-r'}`;
    });
    const places = verb.args.flatMap(({ words }, i) =>
      words === undefined
        ? []
        : [
            `complete -c murmurate -f -n '__murmurate_verb ${verb.name} ${i + 1}' -a ${quoted(words.join(' '))}`,
          ],
    );
    return [...flags, ...places];
  });
  return `# murmurate for fish: "murmurate completion fish" wrote it.
function __murmurate_first
    test (count (commandline -opc)) -eq 1
end
# Whether the verb is $argv[1] and, where $argv[2] is given, its argument of that number is typed now.
function __murmurate_verb
    set -l typed (commandline -opc)
    set -l at 2
    if contains -- "$typed[2]" ${wrappers(verbs).join(' ')}; and test (count $typed) -gt 2
        set at 3
    end
    test "$typed[$at]" = $argv[1]; or return 1
    test (count $argv) -eq 1; or test (math (count $typed) - $at + 1) -eq $argv[2]
end
${[...first, ...rest].join('\n')}
`;
}

/** For each shell, its script for these verbs. */
export const COMPLETION_SCRIPTS: Readonly<Record<Shell, (verbs: readonly Verb[]) => string>> = {
  bash,
  zsh,
  fish,
};
