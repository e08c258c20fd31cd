/** With a SentencePiece tokenizer of the kind of Llama 2, whose words begin with a mark of their own. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { openChatTemplate } from '../../../node/data/chat-template.js';
import { recordOf, USUAL_COLUMNS, type ColumnNames } from '../../../node/data/columns.js';
import { textIds, tokeniseRecord, type TokenisedExample } from '../../../node/data/tokenise.js';
import { openTokenizer, type Tokenizer } from '../../../node/data/tokenizer.js';
import { Scratch, textReference, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

interface Kinds {
  kinds: Record<string, { tokenizer: { added_tokens: object[] } }>;
}
const { kinds } = JSON.parse(
  gunzipSync(readFileSync(textReference('tokenizers.json.gz'))).toString(),
) as Kinds;

const begin = { SpecialToken: { id: '<s>', type_id: 0 } };
const sequence = { Sequence: { id: 'A', type_id: 0 } };

interface Model {
  tokenizer: Tokenizer;
  tokenise: (fields: object, columns?: Partial<ColumnNames>) => TokenisedExample;
  /** Tokens, those that are trained in brackets. */
  shown: (example: TokenisedExample) => string;
}

async function model(kind: string, template?: string): Promise<Model> {
  const dir = await scratch.directory();
  const { tokenizer: own } = kinds[kind] ?? assert.fail(kind);
  const post_processor = {
    type: 'TemplateProcessing',
    single: [begin, sequence],
    pair: [],
    special_tokens: {},
  };
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify({ ...own, post_processor }));
  await writeFile(
    join(dir, 'tokenizer_config.json'),
    JSON.stringify({ bos_token: '<s>', eos_token: '</s>' }),
  );
  if (template !== undefined) await writeFile(join(dir, 'chat_template.jinja'), template);
  const tokenizer = await openTokenizer(dir, {
    vocabSize: 4096,
    eosTokenIds: [],
    padTokenId: null,
  });
  const chatTemplate = await openChatTemplate(dir);
  const tokenise: Model['tokenise'] = (fields, columns = {}) => {
    const all = { ...USUAL_COLUMNS, ...columns };
    const record = recordOf({ fields: { ...fields }, line: 4 }, 'a.jsonl', all);
    return tokeniseRecord(record, 'a.jsonl', { tokenizer, chatTemplate, columns: all });
  };
  const shown: Model['shown'] = ({ tokens, trained }) =>
    tokens
      .map((id, i) => {
        const text = tokenizer.decodeContinuation([id], false);
        return trained[i] === 1 ? `⟦${text}⟧` : text;
      })
      .join('')
      .replaceAll('⟧⟦', '');
  return { tokenizer, tokenise, shown };
}

const CHAT =
  "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}";
const user = (content: string): object => ({ role: 'user', content });
const assistant = (content: string, more: object = {}): object => ({
  role: 'assistant',
  content,
  ...more,
});

describe('a record with a SentencePiece tokenizer', () => {
  it('has the tokens of the whole text: an answer begins with no space of its own', async () => {
    const { tokenizer, tokenise, shown } = await model('llama2', CHAT);
    const messages = [user('Who?'), assistant('Anna.'), user('Where?'), assistant('In the hall.')];
    const example = tokenise({ messages });
    const text = '<s>[INST] Who? [/INST] Anna. </s>[INST] Where? [/INST] In the hall. </s>';
    assert.deepEqual(example.tokens, tokenizer.encode(text));
    assert.equal(
      shown(example),
      '<s> [INST] Who? [/INST]⟦ Anna. </s>⟧ [INST] Where? [/INST]⟦ In the hall. </s>⟧',
    );
    const words = await model('metaspace-always');
    const pair = words.tokenise({ prompt: 'Q: who?\nA:', completion: ' Anna.' });
    assert.deepEqual(pair.tokens.slice(1, -1), words.tokenizer.encode('Q: who?\nA: Anna.'));
  });

  it('has a prompt as generating begins with it, also where the whole text has other tokens', async () => {
    for (const kind of ['llama2', 'gpt2', 'llama3', 'gemma', 'unigram-byte-fallback']) {
      const { tokenizer, tokenise } = await model(kind);
      for (const [prompt, completion] of [
        ...[
          ['Who? ', 'Anna.'],
          ['Who?\n\n', 'Anna.'],
          ['the l', 'athe'],
          ['a\n', '\nb'],
          ['', 'Anna.'],
        ],
      ] as [string, string][]) {
        const { tokens, trained } = tokenise({ prompt, completion });
        const given = textIds(tokenizer, prompt);
        assert.deepEqual(tokens.slice(0, given.length), given, `${kind}: ${prompt}`);
        assert.equal(trained.indexOf(1), given.length);
        if (prompt === '') continue;
        const told = tokenizer.decodeContinuation(tokens.slice(given.length, -1), true);
        assert.equal(told, completion, `${kind}: ${prompt}`);
      }
    }
  });

  it('begins and ends once, whatever the text holds already', async () => {
    const { tokenise } = await model('llama2');
    const once = tokenise({ text: 'the door' }).tokens;
    for (const text of ['<s>the door', 'the door</s>', '<s>the door</s>']) {
      const { tokens } = tokenise({ text });
      assert.deepEqual([tokens[0], tokens.at(-1)], [1, 2], text);
      assert.deepEqual([tokens.indexOf(1, 1), tokens.indexOf(2)], [-1, tokens.length - 1], text);
    }
    assert.deepEqual([once[0], once.at(-1)], [1, 2]);
    const answered = tokenise({ prompt: '<s>Who?', completion: ' Anna.</s>' }).tokens;
    assert.deepEqual([answered.lastIndexOf(1), answered.indexOf(2)], [0, answered.length - 1]);
  });

  it('ends with an end of text where the template ends nothing', async () => {
    const { tokenise, shown } = await model(
      'gpt2',
      "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}",
    );
    const example = tokenise({ messages: [user('Who?'), assistant('Anna.')] });
    assert.match(shown(example), /^user: Who\?\nassistant: ⟦Anna\.\n<\/s>⟧$/);
  });
});

describe('what a conversation loses', () => {
  const call = { tool_calls: [{ type: 'function', function: { name: 'find', arguments: {} } }] };
  const messages = [user('Who?'), assistant('Anna.', call)];

  it('is refused with file, line, turn and field, unless that is accepted', async () => {
    const { tokenise, shown } = await model('llama2', CHAT);
    assert.throws(
      () => tokenise({ messages }),
      userError(
        /^a.jsonl, line 4: the model's chat template leaves out "tool_calls" of turn 2 \(assistant\).*--accept-dropped/,
      ),
    );
    assert.match(shown(tokenise({ messages }, { acceptDropped: true })), /⟦ Anna\. <\/s>⟧$/);
  });

  it('is a role that nobody knows', async () => {
    const { tokenise } = await model('llama2', CHAT);
    const told = [{ role: 'narrator', content: 'It was noon.' }, ...messages];
    assert.throws(
      () => tokenise({ messages: told }, { acceptDropped: true }),
      userError(/^a.jsonl, line 4: turn 1: has the role "narrator".*--accept-roles/),
    );
    const accepted = { acceptDropped: true, acceptRoles: true };
    assert.doesNotThrow(() => tokenise({ messages: told }, accepted));
  });

  it('is all of it where no turn is to be trained', async () => {
    const { tokenise } = await model('llama2', CHAT);
    const silent = [user('Who?'), assistant('Anna.', { weight: 0 })];
    assert.throws(
      () => tokenise({ messages: silent }),
      userError(/line 4: has no turn to train on/),
    );
  });
});

describe('an instruction', () => {
  it('follows what was said before, with a template and without', async () => {
    const fields = { instruction: 'Who?', output: 'Anna.', history: [['Where?', 'Here.']] };
    const chat = await model('llama2', CHAT);
    assert.equal(
      chat.shown(chat.tokenise(fields)),
      '<s> [INST] Where? [/INST]⟦ Here. </s>⟧ [INST] Who? [/INST]⟦ Anna. </s>⟧',
    );
    const plain = await model('gpt2');
    assert.equal(
      plain.shown(plain.tokenise({ ...fields, system: 'Be brief.' })),
      '<s>Be brief.\n\nWhere?\n\nHere.\n\nWho?\n\n⟦Anna.</s>⟧',
    );
  });
});
