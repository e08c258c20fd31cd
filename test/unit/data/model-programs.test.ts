/** Tokenizers and chat templates that try to run for ever or to fill memory. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { openChatTemplate, type ChatTemplate } from '../../../node/data/chat-template.js';
import { openDataset } from '../../../node/data/dataset.js';
import { openTokenizer, type Tokenizer } from '../../../node/data/tokenizer.js';
import { UserError } from '../../../node/errors.js';
import { SMALL_TOKENIZERS } from '../../fuzz/small-tokenizers.js';
import { Scratch, TINY_BASE, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const CALL_MS = 1000;
/** A call that is stopped, on a machine that does much else. */
const STOPPED_MS = 30_000;
const USER = [{ role: 'user', content: 'Who?' }];

async function templateOf(source: string, callMs = CALL_MS): Promise<ChatTemplate> {
  const dir = await scratch.directory();
  await writeFile(join(dir, 'chat_template.jinja'), source);
  const template = await openChatTemplate(dir, { callMs });
  assert.ok(template);
  return template;
}

/** One clear sentence, in time. */
async function isStopped(pattern: RegExp, work: () => unknown): Promise<void> {
  const startMs = performance.now();
  await assert.rejects(
    async () => {
      await work();
    },
    (error) => {
      assert.ok(error instanceof UserError, String(error));
      assert.match(error.message, pattern);
      assert.ok(error.message.length < 700, 'one sentence');
      return true;
    },
  );
  assert.ok(performance.now() - startMs < STOPPED_MS);
}

const DOUBLING =
  "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x | upper }}";
const MEGABYTE =
  "{% set ns = namespace(x='a') %}{% for i in range(20) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}";

const HOSTILE_TEMPLATES: Readonly<Record<string, string>> = {
  'loops within loops':
    '{% for i in range(60000) %}{% for j in range(60000) %}{% endfor %}{% endfor %}x',
  'loops that do something':
    '{% for i in range(60000) %}{% for j in range(60000) %}{{ j }}{% endfor %}{% endfor %}x',
  'a range without end': '{{ range(200000000) | length }}',
  'a range of 10 ** 9': '{% for i in range(10**9) %}{% endfor %}',
  'a range that stands still': '{{ range(2**60, 2**60 + 10) | length }}',
  'text that doubles': DOUBLING,
  'text that is kept': `${MEGABYTE}{% set ns.l = [] %}{% for i in range(100000) %}{% set ns.l = ns.l + [(ns.x ~ i) | upper] %}{% endfor %}`,
  'replacing every character': `${MEGABYTE}{{ ns.x.replace('a', ns.x) }}`,
  'replacing nothing': `${MEGABYTE}{{ ns.x | replace('', ns.x) }}`,
  'joining long texts': `${MEGABYTE}{% set ns.l = [ns.x] %}{% for i in range(14) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l | join(ns.x) }}`,
  'joining by a long text': `${MEGABYTE}{{ ns.x.join(range(90000) | map('string') | list) }}`,
  'joining what was given': `${MEGABYTE}{% set ns.l = messages %}{% for i in range(14) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l | map(attribute='role') | join(ns.x) }}`,
  'a list of lists of lists':
    '{% set ns = namespace(l=[1, 2]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l | tojson }}',
  'a list of lists as text':
    '{% set ns = namespace(l=[1, 2]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l ~ "" }}',
  'a list that doubles':
    '{% set ns = namespace(l=[1, 2]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}x',
  'indenting by much': '{{ [[1]] | tojson(indent=500000000) }}',
  'a macro that calls itself': '{% macro f(x) %}{{ f(x) }}{{ f(x) }}{% endmacro %}{{ f(1) }}',
  'macros that call each other often': `{% macro f0(x) %}x{% endmacro %}${Array.from({ length: 40 }, (_, i) => `{% macro f${i + 1}(x) %}{{ f${i}(x) }}{{ f${i}(x) }}{% endmacro %}`).join('')}{{ f40(1) }}`,
  'splitting into letters again and again': `${MEGABYTE}{% set ns.l = [] %}{% for i in range(100000) %}{% set ns.l = ns.l + [ns.x.split('a')] %}{% endfor %}`,
  'a namespace within itself':
    '{% set ns = namespace(a=1) %}{% set ns.a = ns %}{% set ns.b = ns %}{{ ns }}',
};

describe('a hostile chat template', () => {
  for (const [name, source] of Object.entries(HOSTILE_TEMPLATES)) {
    it(`is stopped at ${name}`, { timeout: 60_000 }, async () => {
      const template = await templateOf(source);
      await isStopped(/chat[_ ]template/, () => template.render(USER, true));
    });
  }

  it('is stopped while it is read', { timeout: 60_000 }, async () => {
    await isStopped(/has more than 65536 expressions/, () =>
      templateOf('{{1+1}}'.repeat(30_000), STOPPED_MS),
    );
    await isStopped(/has 300000 bytes, more than the 262144/, () =>
      templateOf('x'.repeat(300_000)),
    );
    await isStopped(/cannot be read/, () => templateOf(`{{ ${'('.repeat(100_000)} }}`));
  });

  it('says which bound it went beyond, and in which file', async () => {
    const steps = await templateOf(
      '{% for i in range(90000) %}{% for j in range(90) %}{{ j }}{% endfor %}{% endfor %}',
    );
    assert.throws(
      () => steps.render(USER, true),
      userError(
        /chat_template\.jinja: the chat template takes more than 2097152 steps: get the model's own chat template|was stopped after/,
      ),
    );
    const doubling = await templateOf(DOUBLING);
    assert.throws(
      () => doubling.render(USER, true),
      userError(
        /chat_template\.jinja: the chat template makes more than 2097152 characters at once: get/,
      ),
    );
  });

  it('may not write to the terminal in what it says', async () => {
    const rude = await templateOf("{{ raise_exception('\\x1b[2J' ~ messages[0].content) }}");
    assert.throws(
      () => rude.render([{ role: 'user', content: '\u202egnp'.repeat(200) }], false),
      (error) =>
        error instanceof UserError &&
        error.message.includes('\\u001b[2J\\u202egnp') &&
        !/\p{Cc}|\u202e/u.test(error.message) &&
        error.message.length < 1000,
    );
  });
});

describe('a chat template of an honest model', () => {
  it('renders the longest conversation there can be, many times over', async () => {
    const template = await openChatTemplate(TINY_BASE);
    const messages = Array.from({ length: 256 }, (_, i) => ({
      role: i % 2 === 0 ? 'user' : 'assistant',
      content: 'ü'.repeat(4096),
    }));
    const text = template?.render(messages, true) ?? '';
    assert.ok(text.length > 256 * 4096);
    assert.equal(template?.render(messages, true), text);
  });

  it('has the range() of Python', async () => {
    const template = await templateOf(
      '{{ range(3) | join(",") }} {{ range(2, 8, 3) | join(",") }} {{ range(5, 1, -2) | join(",") }} {{ range(1, 1) | length }}',
    );
    assert.equal(template.render([], false), '0,1,2 2,5 5,3 0');
  });
});

type Change = Record<string, unknown>;

/** A small tokenizer (0: byte-level BPE, 2: Unigram) with some of it changed. */
async function directoryOf(change: Change, kind = 0, config: object = {}): Promise<string> {
  const dir = await scratch.directory();
  await writeFile(
    join(dir, 'tokenizer.json'),
    JSON.stringify({ ...SMALL_TOKENIZERS[kind], ...change }),
  );
  await writeFile(
    join(dir, 'tokenizer_config.json'),
    JSON.stringify({ eos_token: '<|end|>', ...config }),
  );
  return dir;
}

const MODEL = { vocabSize: 1 << 20, eosTokenIds: [0], padTokenId: 0 };

async function tokenizerOf(change: Change, kind = 0, config: object = {}): Promise<Tokenizer> {
  return openTokenizer(await directoryOf(change, kind, config), MODEL, {
    callMs: CALL_MS,
    openingMs: 5000,
  });
}

const splitBy = (Regex: string, behavior = 'Isolated'): Change => ({
  pre_tokenizer: { type: 'Split', pattern: { Regex }, behavior, invert: false },
});
const replaceBy = (Regex: string, content: string): Change => ({
  type: 'Replace',
  pattern: { Regex },
  content,
});
const sequence = (step: Change, times: number): Change[] =>
  Array.from({ length: times }, () => step);
const A_LOT = 'a'.repeat(1 << 20);

/** A table of SentencePiece's that writes `text` for "a". */
function tableOf(text: string): string {
  const units = new Uint32Array(256);
  const letter = 'a'.charCodeAt(0);
  units[0] = 1 << 10;
  units[letter ^ 1] = (1 << 10) | (1 << 8) | letter;
  return Buffer.concat([
    Buffer.from(Uint32Array.of(units.byteLength).buffer),
    Buffer.from(units.buffer),
    Buffer.from(`${text}\0`),
  ]).toString('base64');
}

/** [what the tokenizer.json has, a text] */
const HOSTILE_TOKENIZERS: Readonly<Record<string, [Change, string, number?]>> = {
  'a pattern within a pattern': [splitBy('^(a+)+$'), `${'a'.repeat(40)}!`],
  'alternatives that overlap': [splitBy('^(?:a|aa)+$'), `${'a'.repeat(80)}!`],
  'a reference back': [splitBy('^(a*)*\\1b$'), `${'a'.repeat(40)}!`],
  'a pattern that is removed': [splitBy('^(a+)+$', 'Removed'), `${'a'.repeat(40)}!`],
  'a normalizer that looks for ever': [
    { normalizer: replaceBy('^(a+)+$', 'b') },
    `${'a'.repeat(40)}!`,
  ],
  'a pre-tokenizer that looks for ever': [
    { pre_tokenizer: replaceBy('^(a+)+$', 'b') },
    `${'a'.repeat(40)}!`,
  ],
  'a normalizer that doubles its text': [
    { normalizer: { type: 'Sequence', normalizers: sequence(replaceBy('a', 'aa'), 40) } },
    'hello a',
  ],
  'a normalizer that puts much in': [{ normalizer: replaceBy('', 'x'.repeat(200)) }, A_LOT],
  'a normalizer that puts in the text itself': [
    { normalizer: replaceBy('a', `${"$'".repeat(64)}${'x'.repeat(64)}`) },
    A_LOT,
  ],
  'a pre-tokenizer that doubles its text': [
    { pre_tokenizer: { type: 'Sequence', pretokenizers: sequence(replaceBy('a', 'aa'), 40) } },
    'hello a',
  ],
  'many pieces that each grow': [
    {
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [{ type: 'Whitespace' }, ...sequence(replaceBy('a', 'a'.repeat(200)), 3)],
      },
    },
    'a '.repeat(1 << 19),
  ],
  'spaces that become spaces': [
    {
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: sequence({ type: 'Metaspace', replacement: '        ' }, 30),
      },
    },
    'hello a',
  ],
  'many pieces of a text that has grown': [
    { normalizer: replaceBy('a', 'a'.repeat(7)), ...splitBy('a') },
    A_LOT,
  ],
  'marks without end on one character': [
    {
      normalizer: {
        type: 'Sequence',
        normalizers: [replaceBy('a', '\u0301\u0316'.repeat(8)), { type: 'NFD' }],
      },
    },
    A_LOT.slice(0, 1 << 17),
  ],
  'a table that writes much for one character': [
    { normalizer: { type: 'Precompiled', precompiled_charsmap: tableOf('x'.repeat(5000)) } },
    'hello a',
  ],
  'prefixes of one another': [
    {
      model: {
        type: 'Unigram',
        unk_id: 0,
        vocab: Array.from({ length: 2000 }, (_, i) => ['a'.repeat(i + 1), -i]),
      },
    },
    'a'.repeat(1 << 17),
    2,
  ],
};

describe('a hostile tokenizer', () => {
  for (const [name, [change, text, kind]] of Object.entries(HOSTILE_TOKENIZERS)) {
    it(`is stopped at ${name}`, { timeout: 60_000 }, async () => {
      await isStopped(/tokenizer\.json/, async () =>
        (await tokenizerOf(change, kind)).encode(text),
      );
    });
  }

  /** Refused before anything runs. */
  const REFUSED: readonly [RegExp, Change, number?, object?][] = [
    [/"length" of "pre_tokenizer" must be/, { pre_tokenizer: { type: 'FixedLength', length: 0 } }],
    [
      /"length" of "pre_tokenizer" must be/,
      { pre_tokenizer: { type: 'FixedLength', length: '0' } },
    ],
    [/has an id that is not/, { model: { type: 'BPE', merges: [], vocab: { a: 2 ** 32 - 2 } } }],
    [/a token id must be below/, { added_tokens: [{ id: 2 ** 31, content: 'a' }] }],
    [
      /pairs of a token and its score/,
      { model: { type: 'Unigram', unk_id: 0, vocab: [['a', 'x'.repeat(100)]] } },
    ],
    [
      /more than 64 steps/,
      { normalizer: { type: 'Sequence', normalizers: sequence({ type: 'NFC' }, 100) } },
    ],
    [
      /ByteLevel steps/,
      { pre_tokenizer: { type: 'Sequence', pretokenizers: sequence({ type: 'ByteLevel' }, 20) } },
    ],
    [
      /holds the text 2 times/,
      {
        post_processor: {
          type: 'TemplateProcessing',
          single: sequence({ Sequence: { id: 'A' } }, 2),
        },
      },
    ],
    [
      /"content" of "decoder" has 10000 characters/,
      { decoder: { type: 'Strip', content: 'x'.repeat(10_000) } },
    ],
    [
      /"content" of "normalizer" must be text/,
      { normalizer: { ...replaceBy('a', ''), content: ['x'] } },
    ],
    [/a pattern of "pre_tokenizer" has 20000/, splitBy('a'.repeat(20_000))],
    [
      /must have at most 131072 tokens/,
      { added_tokens: Array.from({ length: 140_000 }, (_, id) => ({ id, content: 'a' })) },
    ],
    [
      /added tokens have 2000000 characters/,
      { added_tokens: [{ id: 1, content: 'x'.repeat(2_000_000) }] },
    ],
    [
      /must list at most 16384 tokens/,
      {},
      0,
      { additional_special_tokens: Array.from({ length: 20_000 }, String) },
    ],
  ];
  for (const [pattern, change, kind, config] of REFUSED) {
    it(`is refused: ${pattern.source}`, async () => {
      await isStopped(pattern, () => tokenizerOf(change, kind, config));
    });
  }

  it('is refused when it is nested deeply', async () => {
    const dir = await directoryOf({ extra: 'DEEP' });
    const path = join(dir, 'tokenizer.json');
    const text = await readFile(path, 'utf8');
    await writeFile(path, text.replace('"DEEP"', `${'['.repeat(5000)}${']'.repeat(5000)}`));
    await isStopped(/tokenizer\.json is nested more than 100 levels/, () =>
      openTokenizer(dir, MODEL),
    );
  });

  it('is stopped while its added tokens are normalised', { timeout: 60_000 }, async () => {
    const added_tokens = [{ id: 1, content: `${'a'.repeat(40)}!`, normalized: true }];
    await isStopped(/was stopped after 5 s/, () =>
      tokenizerOf({ added_tokens, normalizer: replaceBy('^(a+)+$', 'b') }),
    );
    const normalizer = { type: 'Sequence', normalizers: sequence(replaceBy('a', 'aa'), 22) };
    await isStopped(/has an added token of|makes a text of more/, () =>
      tokenizerOf({ added_tokens: [{ id: 1, content: 'a', normalized: true }], normalizer }),
    );
  });

  it('is stopped while it decodes', { timeout: 60_000 }, async () => {
    const vocab = { [`${'a'.repeat(40)}!`]: 1, '<|end|>': 0 };
    const slow = await tokenizerOf({
      model: { type: 'BPE', vocab, merges: [], unk_token: '<|end|>' },
      decoder: replaceBy('^(a+)+$', 'b'),
    });
    await isStopped(/tokenizer\.json was stopped after/, () => slow.decode([1], false));
    const decoders: Change[] = [
      { type: 'Sequence', decoders: sequence({ type: 'BPEDecoder', suffix: '' }, 40) },
      { type: 'Sequence', decoders: sequence(replaceBy('', 'x'.repeat(200)), 40) },
    ];
    for (const decoder of decoders) {
      await isStopped(/tokenizer\.json(: the tokenizer makes more than| was stopped)/, async () => {
        const growing = await tokenizerOf({ decoder });
        growing.decode(growing.encode('hello'), false);
      });
    }
    const long = await tokenizerOf({
      model: {
        type: 'BPE',
        vocab: { ['a'.repeat(100_000)]: 1, '<|end|>': 0 },
        merges: [],
        unk_token: '<|end|>',
      },
    });
    await isStopped(/makes 100000000 characters of 1000 tokens/, () =>
      long.decode(
        Array.from({ length: 1000 }, () => 1),
        false,
      ),
    );
  });

  it('is stopped once, not for each record', { timeout: 60_000 }, async () => {
    const tokenizer = await tokenizerOf(splitBy('^(a+)+$'));
    const file = join(await scratch.directory(), 'data.jsonl');
    const line = JSON.stringify({ text: `${'a'.repeat(60)}!` });
    await writeFile(file, Array.from({ length: 1000 }, () => line).join('\n'));
    const faults: string[] = [];
    const options = {
      ...{ tokenizer, chatTemplate: null, sequenceLength: 64, heldOutShare: 0 },
      ...{
        seed: new Uint8Array(32),
        onFault: ({ message }: UserError) => void faults.push(message),
      },
    };
    await isStopped(/./, () => openDataset([file], options));
    assert.ok(faults.length > 0);
    assert.ok(faults.every((fault) => /tokenizer\.json was stopped after/.test(fault)));
  });

  it('refuses a text that is longer than any record', async () => {
    for (const kind of [0, 1, 2, 3]) {
      const tokenizer = await tokenizerOf({}, kind);
      const text = 'hello, he12\n'.repeat(1000);
      assert.ok(tokenizer.encode(text).length > 1000);
      assert.equal(typeof tokenizer.decode(tokenizer.encode(text), true), 'string');
      assert.throws(
        () => tokenizer.encode('a'.repeat(3_000_000)),
        userError(/cannot take a text of 3000000 characters, only 2097152/),
      );
    }
  });
});
