import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import '../../../node/net/polyfill.js';
import { VERBS } from '../../../node/cli/verbs.js';
import {
  defaultsOf,
  integer,
  keyOf,
  manyOption,
  option,
  switchOption,
  text,
} from '../../../node/config.js';
import { parseConfigFile, readConfigFile } from '../../../node/config/file.js';
import {
  isShared,
  OTHER_VARIABLES,
  optionsFrom,
  sharedOptions,
  Sources,
  variableOf,
  variables,
  type ConfigurableVerb,
  type Origin,
} from '../../../node/config/sources.js';
import { EXIT_USAGE, UserError } from '../../../node/errors.js';

const guests = manyOption(text('NAME'), [], 'who comes');
const cook = {
  name: 'cook',
  isPeer: true,
  options: {
    guests,
    cookMinutes: option(integer('N', 1, 60), 10, 'how long'),
    hot: switchOption('serve it hot'),
  },
} as const satisfies ConfigurableVerb;
const clean = {
  name: 'clean',
  options: { guests, cookMinutes: option(integer('N', 1, 9), 1, 'how long') },
} as const satisfies ConfigurableVerb;
const VERBS_HERE: readonly ConfigurableVerb[] = [cook, clean];

function sources(yaml: string, environment: Record<string, string> = {}): Sources {
  return new Sources(VERBS_HERE, parseConfigFile(yaml, 'm.yaml'), environment);
}

function at(line: number): Origin {
  return { kind: 'file', path: 'm.yaml', line };
}

/** Asserts wrong usage with exactly this sentence. */
function refuses(work: () => unknown, sentence: string): void {
  assert.throws(work, (error) => {
    assert.ok(error instanceof UserError);
    assert.equal(error.message, sentence);
    assert.equal(error.exitCode, EXIT_USAGE);
    return true;
  });
}

describe('Sources', () => {
  it('lets the flag win over the variable, the variable over the file, and the file over the default', () => {
    const yaml = '# dinner\nguests: [a, "b c"]\ncook-minutes: 20\n';
    const { values, origins } = sources(yaml, { MURMURATE_COOK_MINUTES: '30' }).resolve(cook, {
      hot: true,
    });
    assert.deepEqual(values, { guests: ['a', 'b c'], cookMinutes: 30, hot: true });
    assert.deepEqual(
      [...origins],
      [
        ['guests', at(2)],
        ['cookMinutes', { kind: 'variable', name: 'MURMURATE_COOK_MINUTES' }],
        ['hot', { kind: 'flag' }],
      ],
    );
    const flags = { cookMinutes: 40 };
    const all = sources(yaml, { MURMURATE_COOK_MINUTES: '30' }).resolve(cook, flags);
    assert.equal(all.values['cookMinutes'], 40);
    assert.deepEqual(sources('').resolve(cook, {}), {
      values: defaultsOf(cook.options),
      origins: new Map(),
    });
  });

  it('gives what stands alone to the verbs that share the option, and a section to its verb only', () => {
    const yaml = 'guests: a\ncook-minutes: 20\nclean:\n  cook-minutes: 5\ncook:\n  guests: [b]\n';
    const both = sources(yaml);
    assert.deepEqual(both.resolve(cook, {}).values, { guests: ['b'], cookMinutes: 20, hot: false });
    assert.deepEqual(both.resolve(clean, {}).values, { guests: ['a'], cookMinutes: 5 });
    assert.deepEqual(both.resolve(clean, {}).origins.get('cookMinutes'), at(4));
    const byVariable = sources(yaml, {
      MURMURATE_GUESTS: 'c, d',
      MURMURATE_CLEAN_COOK_MINUTES: '7',
    });
    assert.deepEqual(byVariable.resolve(cook, {}).values['guests'], ['c', 'd']);
    assert.deepEqual(byVariable.resolve(clean, {}).values, { guests: ['c', 'd'], cookMinutes: 7 });
  });

  it('refuses an unknown name with the nearest one, and a wrong value with the sentence of the flag', () => {
    const cases: [string, string][] = [
      ['\nguest: a', 'm.yaml:2: there is no option guest (did you mean guests?)'],
      ['qqqqqqqq: a', 'm.yaml:1: there is no option qqqqqqqq'],
      ['clean:\n  hot: true', 'm.yaml:2: there is no option hot of clean'],
      ['kook:\n  hot: true', 'm.yaml:1: there is no verb kook (did you mean cook?)'],
      [
        'cook-minutes: 61',
        '--cook-minutes is "61" (m.yaml:1); it must be a whole number from 1 to 60',
      ],
      [
        'clean:\n  cook-minutes: 10',
        '--cook-minutes is "10" (m.yaml:2); it must be a whole number from 1 to 9',
      ],
      ['cook-minutes: [1, 2]', '--cook-minutes is "1, 2" (m.yaml:1); it must be one value'],
      ['hot: yes', '--hot is "yes" (m.yaml:1); it must be true or false'],
      ['guests:\n  - a\n  - ""', 'm.yaml:3: guests has no value; give one, or delete the line'],
      ['hot:', 'm.yaml:1: hot has no value; give one, or delete the line'],
      ['guests: &x a\nhot: *x', 'm.yaml:2: hot refers to another value; write it out'],
      ['clean:\n  guests:\n    hot: a', 'm.yaml:2: "guests" has settings of its own inside'],
      ['guests', 'm.yaml:1: is no list of settings like "epochs: 30"'],
      ['hot: true\nhot: false', 'm.yaml:2: Map keys must be unique; see "murmurate init"'],
    ];
    for (const [yaml, sentence] of cases) refuses(() => sources(yaml), sentence);
    const own = { ...cook, isPeer: undefined };
    refuses(
      () => new Sources([own, clean] as ConfigurableVerb[], parseConfigFile('hot: true', 'm'), {}),
      'm:1: hot is an option of cook; write it below "cook:"',
    );
    const variableCases: [Record<string, string>, string][] = [
      [
        { MURMURATE_GUESS: 'a' },
        'the variable MURMURATE_GUESS sets no option (did you mean MURMURATE_GUESTS?); unset it, or see docs/CLI.md',
      ],
      [
        { MURMURATE_COOK_MINUTES: '1e9' },
        '--cook-minutes is "1e9" (MURMURATE_COOK_MINUTES); it must be a whole number from 1 to 60',
      ],
      [{ MURMURATE_HOT: '1' }, '--hot is "1" (MURMURATE_HOT); it must be true or false'],
    ];
    for (const [environment, sentence] of variableCases) {
      refuses(() => sources('', environment), sentence);
    }
  });

  it('passes over empty variables, those of others, its own that are no options, and those of Kubernetes', () => {
    const environment = {
      PATH: '/bin',
      MURMURATE_HOT: '',
      MURMURATE_CONFIG: 'x.yaml',
      MURMURATE_PORT: 'tcp://10.0.0.1:4001',
      MURMURATE_PORT_4001_TCP_ADDR: '10.0.0.1',
      MURMURATE_SERVICE_HOST: '10.0.0.1',
    };
    assert.equal(sources('', environment).resolve(cook, {}).origins.size, 0);
  });

  it('takes from a file whatever the flag takes, and nothing else', () => {
    const number = fc.oneof(
      fc.integer({ min: -5, max: 70 }).map(String),
      fc.string({ maxLength: 4 }),
    );
    fc.assert(
      fc.property(number, (value) => {
        const isValid = /^[+-]?\d+$/.test(value) && Number(value) >= 1 && Number(value) <= 60;
        const read = (): unknown =>
          sources(`cook-minutes: ${JSON.stringify(value)}`).resolve(cook, {}).values['cookMinutes'];
        if (isValid) assert.equal(read(), Number(value));
        else assert.throws(read, UserError);
      }),
    );
  });
});

describe('the options of every verb', () => {
  it('have each one key and one variable, which no other option and nothing else has', () => {
    const shared = sharedOptions(VERBS);
    for (const { name, options } of VERBS.filter(({ isPeer }) => isPeer)) {
      for (const [key, spec] of Object.entries(options)) {
        assert.ok(isShared(shared, key, spec), `${name} and another peer differ in ${key}`);
      }
    }
    const total = VERBS.reduce(
      (sum, { options }) => sum + Object.keys(options).length,
      Object.keys(shared).length,
    );
    assert.equal(variables(VERBS).size, total);
    for (const name of OTHER_VARIABLES) assert.ok(!variables(VERBS).has(name), name);
    for (const name of variables(VERBS).keys()) {
      assert.doesNotMatch(name, /^MURMURATE_(SERVICE_|PORT$|PORT_)/);
    }
    for (const { options } of VERBS) assert.ok(!('config' in options));
  });

  it('can be set by file and variable to their own defaults', () => {
    for (const verb of VERBS) {
      for (const [name, spec] of Object.entries(verb.options)) {
        const byDefault = spec.kind === 'switch' ? false : spec.default;
        if (byDefault === null || (Array.isArray(byDefault) && byDefault.length === 0)) continue;
        const words = [byDefault].flat().map(String).join(',');
        const environment = { [variableOf(name, verb.name)]: words };
        const isFile = new Sources(
          VERBS,
          parseConfigFile(`${verb.name}:\n  ${keyOf(name)}: [${words}]\n`, 'm.yaml'),
          {},
        );
        for (const found of [isFile, new Sources(VERBS, null, environment)]) {
          const { values, origins } = found.resolve(verb, {});
          assert.deepEqual(values[name], byDefault, `${verb.name} ${name}`);
          assert.ok(origins.has(name));
        }
      }
    }
  });
});

describe('optionsFrom()', () => {
  it('checks what a program gives as the command line does', () => {
    const { values, origins } = optionsFrom(cook.options, {
      guests: ['a'],
      cookMinutes: 60,
      hot: undefined,
    });
    assert.deepEqual(values, { guests: ['a'], cookMinutes: 60, hot: false });
    assert.deepEqual([...origins.keys()], ['guests', 'cookMinutes']);
    refuses(
      () => optionsFrom(cook.options, { cookMinutes: 61 }),
      '--cook-minutes is "61"; it must be a whole number from 1 to 60',
    );
    refuses(
      () => optionsFrom(cook.options, { guest: 'a' }),
      'there is no option guest (did you mean guests?)',
    );
  });
});

describe('readConfigFile()', () => {
  let dir = '';
  before(async () => {
    dir = await mkdtemp(path.join(tmpdir(), 'murmurate-config-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('refuses a file with an invite that others may read, and quotes nothing of it', async () => {
    const file = path.join(dir, 'murmurate.yaml');
    await writeFile(file, 'address: murmurate1secretsecret\n');
    await chmod(file, 0o640);
    await assert.rejects(readConfigFile(file), (error) => {
      assert.ok(error instanceof UserError);
      const expected = `${file} holds an invite and can be read by others (mode 0640): chmod 600 ${file}`;
      assert.equal(error.message, expected);
      return true;
    });
    await chmod(file, 0o600);
    const { settings } = await readConfigFile(file);
    assert.deepEqual(settings, [{ key: 'address', texts: ['murmurate1secretsecret'], line: 1 }]);
  });

  it('refuses a file that is missing or no file', async () => {
    await assert.rejects(
      readConfigFile(path.join(dir, 'none.yaml')),
      /does not exist: check the path/,
    );
    await assert.rejects(readConfigFile(dir), /is not a regular file|EISDIR/);
  });
});
