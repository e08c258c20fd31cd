/**
 * Where an option's value comes from: its default, the config file, the environment, the command line; the later
 * wins. A name that stands alone (`epochs`, MURMURATE_EPOCHS) is an option of start and join, and of every verb that
 * shares it with them; what a verb has for itself stands in its section (MURMURATE_EVAL_SEQUENCE_LENGTH).
 */
import { closest, distance } from 'fastest-levenshtein';
import { defaultsOf, keyOf, valueOf, type OptionSpec, type OptionSpecs } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { fileError, type ConfigFile, type Setting } from './file.js';

/** What is needed of a verb here. */
export interface ConfigurableVerb {
  name: string;
  options: OptionSpecs;
  /** Whether its options are those of a peer. */
  isPeer?: true;
}

/** Who set a value; what nobody set has its default. */
export type Origin =
  | { kind: 'file'; path: string; line: number }
  | { kind: 'variable'; name: string }
  | { kind: 'flag' };

/** The values of a verb's options. */
export interface ResolvedOptions {
  /** By name in camelCase. */
  values: Readonly<Record<string, unknown>>;
  /** Of those that are not at their default. */
  origins: ReadonlyMap<string, Origin>;
}

/** Variables of this program that are no options. */
export const OTHER_VARIABLES: readonly string[] = ['MURMURATE_CONFIG', 'MURMURATE_TFJS'];

const PREFIX = 'MURMURATE_';

/** Kubernetes tells every container of a service that is called murmurate. */
const KUBERNETES = /^MURMURATE_(SERVICE_|PORT$|PORT_)/;

/** A name further from all known ones than this share of its length is no slip of the fingers. */
const SLIP_SHARE_MAX = 0.5;

/** Of an option that stands alone, or of one in the section of `verb`. */
export function variableOf(name: string, verb: string | null = null): string {
  const parts = verb === null ? [name] : [verb, name];
  return `${PREFIX}${parts.map((part) => keyOf(part).replaceAll('-', '_').toUpperCase()).join('_')}`;
}

/** E.g. "murmurate.yaml:3"; undefined for the command line, where a person has it before the eyes. */
export function placeOf(origin: Origin | undefined): string | undefined {
  if (origin?.kind === 'file') return `${origin.path}:${origin.line}`;
  return origin?.kind === 'variable' ? origin.name : undefined;
}

/** A value that was read and checked. */
interface Found {
  value: unknown;
  origin: Origin;
}

/** An option that can be set, in which section, and what it is. */
interface Slot {
  verb: string | null;
  name: string;
  spec: OptionSpec;
}

/** Options that stand alone, by name: those of start and join. */
export function sharedOptions(verbs: readonly ConfigurableVerb[]): OptionSpecs {
  const peers = verbs.filter(({ isPeer }) => isPeer);
  return peers.reduce<OptionSpecs>((all, { options }) => ({ ...all, ...options }), {});
}

/** Whether the option `name` of a verb is set by the name that stands alone. */
export function isShared(shared: OptionSpecs, name: string, spec: OptionSpec | undefined): boolean {
  return spec !== undefined && shared[name] === spec;
}

/** What file and environment say, checked as a whole. */
export class Sources {
  readonly #verbs: readonly ConfigurableVerb[];
  readonly #shared: OptionSpecs;
  /** By section ("" for none), then by name; a later source replaces an earlier one. */
  readonly #found = new Map<string, Map<string, Found>>();

  /** Throws UserError (wrong usage) for a name that is no option and a value that its option does not take. */
  constructor(
    verbs: readonly ConfigurableVerb[],
    file: ConfigFile | null,
    environment: Readonly<Record<string, string | undefined>>,
  ) {
    this.#verbs = verbs;
    this.#shared = sharedOptions(verbs);
    if (file !== null) this.#readFile(file);
    this.#readEnvironment(environment);
  }

  /** The options of `verb`, of which `flags` were on the command line (parsed, by name). */
  resolve(verb: ConfigurableVerb, flags: Readonly<Record<string, unknown>>): ResolvedOptions {
    const values: Record<string, unknown> = { ...defaultsOf(verb.options) };
    const origins = new Map<string, Origin>();
    const take = (name: string, { value, origin }: Found): void => {
      values[name] = value;
      origins.set(name, origin);
    };
    const own = this.#found.get(verb.name);
    const alone = this.#found.get('');
    for (const [name, spec] of Object.entries(verb.options)) {
      const candidates = [
        isShared(this.#shared, name, spec) ? alone?.get(name) : undefined,
        own?.get(name),
      ].filter((one) => one !== undefined);
      // A variable is nearer than a file, and the section nearer than what stands alone.
      const best = candidates.findLast(({ origin }) => origin.kind === 'variable');
      const found = best ?? candidates.at(-1);
      if (found) take(name, found);
      if (name in flags) take(name, { value: flags[name], origin: { kind: 'flag' } });
    }
    return { values, origins };
  }

  #readFile({ path, settings, sections }: ConfigFile): void {
    const at = ({ line }: { line: number }): Origin => ({ kind: 'file', path, line });
    for (const setting of settings) {
      const slot = slotOf(null, this.#shared, setting.key) ?? this.#elsewhere(path, setting);
      this.#keep(slot, setting.texts, at(setting));
    }
    for (const { verb: name, line, settings: inner } of sections) {
      const verb = this.#verbs.find((one) => one.name === name);
      if (!verb) {
        const names = this.#verbs.map((one) => one.name);
        throw fileError(path, line, `there is no verb ${name}${suggestion(name, names)}`);
      }
      for (const setting of inner) {
        const slot = slotOf(name, verb.options, setting.key);
        if (slot === null) throw unknownKey(path, setting, verb.options, ` of ${name}`);
        this.#keep(slot, setting.texts, at(setting));
      }
    }
  }

  /** Throws: a key that stands alone and is no option of a peer. */
  #elsewhere(path: string, setting: Setting): never {
    const { key, line } = setting;
    const owners = this.#verbs.filter(({ options }) => slotOf(null, options, key) !== null);
    const [owner] = owners;
    if (!owner) throw unknownKey(path, setting, this.#shared, '');
    const names = owners.map(({ name }) => name).join(', ');
    throw fileError(path, line, `${key} is an option of ${names}; write it below "${owner.name}:"`);
  }

  #readEnvironment(environment: Readonly<Record<string, string | undefined>>): void {
    const slots = variables(this.#verbs);
    for (const [variable, text = ''] of Object.entries(environment)) {
      // An empty variable is one that is not set, as with most programs.
      if (!variable.startsWith(PREFIX) || text === '') continue;
      if (OTHER_VARIABLES.includes(variable) || KUBERNETES.test(variable)) continue;
      const slot = slots.get(variable);
      if (!slot) {
        const known = [...slots.keys(), ...OTHER_VARIABLES];
        throw new UserError(
          `the variable ${variable} sets no option${suggestion(variable, known)}; unset it, or see docs/CLI.md`,
          EXIT_USAGE,
        );
      }
      const texts = slot.spec.kind === 'many' ? text.split(',').map((one) => one.trim()) : [text];
      this.#keep(slot, texts, { kind: 'variable', name: variable });
    }
  }

  #keep({ verb, name, spec }: Slot, texts: readonly string[], origin: Origin): void {
    const value = valueOf(name, spec, texts, placeOf(origin));
    const section = this.#found.get(verb ?? '') ?? new Map<string, Found>();
    this.#found.set(verb ?? '', section.set(name, { value, origin }));
  }
}

/** Every variable that sets an option. */
export function variables(verbs: readonly ConfigurableVerb[]): Map<string, Slot> {
  const slots = new Map<string, Slot>();
  const add = (verb: string | null, options: OptionSpecs): void => {
    for (const [name, spec] of Object.entries(options)) {
      const variable = variableOf(name, verb);
      // Of two readings of one name the one that stands alone counts.
      if (!slots.has(variable)) slots.set(variable, { verb, name, spec });
    }
  };
  add(null, sharedOptions(verbs));
  for (const { name, options } of verbs) add(name, options);
  return slots;
}

function slotOf(verb: string | null, options: OptionSpecs, key: string): Slot | null {
  const entry = Object.entries(options).find(([name]) => keyOf(name) === key);
  return entry === undefined ? null : { verb, name: entry[0], spec: entry[1] };
}

function unknownKey(
  path: string,
  { key, line }: Setting,
  known: OptionSpecs,
  of: string,
): UserError {
  const keys = Object.keys(known).map(keyOf);
  return fileError(path, line, `there is no option ${key}${of}${suggestion(key, keys)}`);
}

/** E.g. " (did you mean epochs?)". */
function suggestion(name: string, known: readonly string[]): string {
  if (known.length === 0) return '';
  const nearest = closest(name, [...known]);
  return distance(name, nearest) <= SLIP_SHARE_MAX * name.length
    ? ` (did you mean ${nearest}?)`
    : '';
}

/** What a program may give for an option. */
export type GivenValue =
  string | number | boolean | readonly (string | number)[] | null | undefined;

/**
 * The options that a program gives by name, checked as those of the command line are: numbers and texts, lists of
 * them, true or false; null and undefined stand for the default. Throws UserError (wrong usage).
 */
export function optionsFrom(
  specs: OptionSpecs,
  given: Readonly<Record<string, GivenValue>>,
): ResolvedOptions {
  const values: Record<string, unknown> = { ...defaultsOf(specs) };
  const origins = new Map<string, Origin>();
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null) continue;
    const spec = specs[name];
    if (spec === undefined) {
      const words = `there is no option ${name}${suggestion(name, Object.keys(specs))}`;
      throw new UserError(words, EXIT_USAGE);
    }
    const texts = typeof value === 'object' ? value.map(String) : [String(value)];
    values[name] = valueOf(name, spec, texts);
    origins.set(name, { kind: 'flag' });
  }
  return { values, origins };
}
