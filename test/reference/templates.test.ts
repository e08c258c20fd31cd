/**
 * Conversations in the formats of well-known models: the ids of Transformers, and the same of them trained, with the
 * template's own marks and without (values: make_template_reference.py).
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { z } from 'zod';
import { openChatTemplate, type ChatTemplate } from '../../node/data/chat-template.js';
import { readContext, readTurns } from '../../node/data/chat-columns.js';
import { USUAL_COLUMNS } from '../../node/data/columns.js';
import { templateFormat } from '../../node/data/conversation.js';
import type { DataRecord } from '../../node/data/records.js';
import { tokeniseRecord, type TokenisedExample } from '../../node/data/tokenise.js';
import { openTokenizer, type Tokenizer } from '../../node/data/tokenizer.js';
import { UserError } from '../../node/errors.js';
import { ROOT, Scratch, textReference } from '../unit/model/fixtures.js';

const row = z.object({
  ids: z.array(z.int()),
  mask: z.array(z.union([z.literal(0), z.literal(1)])),
});
const reference = z.object({
  conversations: z.array(
    z.object({ title: z.string(), messages: z.unknown(), tools: z.unknown() }),
  ),
  models: z.record(
    z.string(),
    z.object({
      kind: z.string(),
      added_tokens: z.array(z.unknown()),
      bos_token: z.string().nullable(),
      eos_token: z.string(),
      cases: z.array(
        z.union([
          z.object({ refused: z.string() }),
          z.object({ whole: row, rows: z.array(row), lost: z.boolean() }),
        ]),
      ),
    }),
  ),
});
const kindsFile = z.object({
  kinds: z.record(z.string(), z.object({ tokenizer: z.looseObject({}) })),
});

const scratch = new Scratch();
after(() => scratch.remove());

const unzipped = (name: string): unknown =>
  JSON.parse(gunzipSync(readFileSync(textReference(name))).toString());
const { conversations, models } = reference.parse(unzipped('templates.json.gz'));
const { kinds } = kindsFile.parse(unzipped('tokenizers.json.gz'));

/** Where the tags stood, with their control of white space. */
function withoutMarks(source: string): string {
  return source
    .replace(/\{%(-?)\s*generation\s*(-?)%\}/g, '{%$1 if true $2%}')
    .replace(/\{%(-?)\s*endgeneration\s*(-?)%\}/g, '{%$1 endif $2%}');
}

type Tokenise = (conversation: (typeof conversations)[number]) => TokenisedExample | UserError;

interface Opened {
  tokenise: Tokenise;
  tokenizer: Tokenizer;
  chatTemplate: ChatTemplate;
}

async function modelOf(name: string, isMarked: boolean): Promise<Opened> {
  const model = models[name];
  assert.ok(model);
  const dir = await scratch.directory();
  const source = readFileSync(join(ROOT, 'test/reference/chat-templates', `${name}.jinja`), 'utf8');
  const write = (file: string, text: string): Promise<void> => writeFile(join(dir, file), text);
  const { tokenizer: own } = kinds[model.kind] ?? {};
  await write('tokenizer.json', JSON.stringify({ ...own, added_tokens: model.added_tokens }));
  const { bos_token, eos_token } = model;
  await write('tokenizer_config.json', JSON.stringify({ bos_token, eos_token }));
  await write('chat_template.jinja', isMarked ? source : withoutMarks(source));
  const size = { vocabSize: 4096, eosTokenIds: [], padTokenId: null };
  const tokenizer = await openTokenizer(dir, size);
  const chatTemplate = await openChatTemplate(dir);
  assert.ok(chatTemplate);
  const tokenise: Tokenise = ({ messages, tools }) => {
    const context = readContext(tools === null ? {} : { tools });
    const record: DataRecord = {
      ...{ kind: 'messages', line: 1, messages: readTurns(messages, 'messages') },
      context: { ...context, variables: { date_string: '26 Jul 2024' } },
    };
    const columns = { ...USUAL_COLUMNS, acceptDropped: true };
    try {
      return tokeniseRecord(record, 'f', { tokenizer, chatTemplate, columns });
    } catch (cause) {
      if (cause instanceof UserError) return cause;
      throw cause;
    }
  };
  return { tokenise, tokenizer, chatTemplate };
}

/** The texts of an example, with an end-of-text token that ours may have more left out. */
function rowsOf({ tokens, trained, starts }: TokenisedExample): z.infer<typeof row>[] {
  return starts.map((start, i) => ({
    ids: tokens.slice(start, starts[i + 1]),
    mask: trained.slice(start, starts[i + 1]),
  }));
}

/** What our program takes although Transformers 5 does not: null for the words beside a call. */
const REFUSED_BY_TRANSFORMERS_ALONE = new Set(['deepseek-r1: a call and its answer']);
/** Thoughts of an earlier answer, which the template shows while it is the last one. */
const FORGOTTEN = new Set(['qwen3: thoughts in a field', 'gpt-oss: thoughts in a field']);
/** The thoughts are trained where their template drops them. */
const TRAINED_ALL_THE_SAME = new Set([
  'deepseek-r1: thoughts in a field',
  'deepseek-r1: thoughts in the answer',
]);

describe('chat templates of well-known models', () => {
  it('are fourteen at least, with twelve conversations each', () => {
    assert.ok(Object.keys(models).length >= 14);
    assert.equal(conversations.length, 12);
  });

  it('are trained with the tokens that chat and serve give the model before its answer', async () => {
    for (const name of Object.keys(models)) {
      const { tokenise, tokenizer, chatTemplate } = await modelOf(name, false);
      // They write the date, which stands still in these references.
      const format = templateFormat(
        {
          ...{ names: () => true, renderMarked: () => assert.fail('nobody asks') },
          render: (messages, prompt) =>
            chatTemplate.render(messages, prompt, { variables: { date_string: '26 Jul 2024' } }),
        },
        tokenizer,
      );
      for (const conversation of conversations.slice(0, 5)) {
        const messages = readTurns(conversation.messages, 'messages');
        const found = tokenise(conversation);
        if (found instanceof UserError) continue;
        const rows = rowsOf(found);
        for (const [i, { role }] of messages.entries()) {
          // Llama 3.1 and others take the words of a system message into a turn of the user.
          if (role !== 'assistant' || messages[0]?.role === 'system') continue;
          const prompt = format.prompt(messages.slice(0, i));
          const isBegun = rows.some(({ ids }) => prompt.every((id, j) => ids[j] === id));
          assert.ok(
            isBegun || name === 'deepseek-r1',
            `${name}: ${conversation.title}, turn ${i + 1}`,
          );
        }
      }
    }
  });

  for (const [name, { cases }] of Object.entries(models)) {
    for (const isMarked of [true, false]) {
      it(`${name}, ${isMarked ? 'with' : 'without'} marks: ids and masks of Transformers`, async () => {
        const { tokenise, tokenizer } = await modelOf(name, isMarked);
        const wrong: string[] = [];
        for (const [i, expected] of cases.entries()) {
          const conversation = conversations[i];
          assert.ok(conversation);
          const title = `${name}: ${conversation.title}`;
          if (!isMarked && TRAINED_ALL_THE_SAME.has(title)) continue;
          const found = tokenise(conversation);
          if ('refused' in expected) {
            if (!(found instanceof UserError) && !REFUSED_BY_TRANSFORMERS_ALONE.has(title)) {
              const told = tokenizer.decode(found.tokens, false);
              if (told.includes('find_key')) wrong.push(`${title}: taken: ${told}`);
            }
            continue;
          }
          if (found instanceof UserError) {
            wrong.push(`${title}: ${found.message}`);
            continue;
          }
          const rows = rowsOf(found);
          // What the template forgets of an earlier answer Transformers does not train: here it has a text of its own.
          const due = isMarked && !FORGOTTEN.has(title) ? [expected.whole] : expected.rows;
          // GLM-4 ends no turn, so that an end-of-text token follows the last.
          const last = rows.at(-1);
          if (
            name === 'glm4' &&
            !isMarked &&
            last?.ids.length === (due.at(-1)?.ids.length ?? 0) + 1
          ) {
            assert.equal(last.ids.pop(), tokenizer.eosTokenId);
            assert.equal(last.mask.pop(), 1);
          }
          if (JSON.stringify(rows) === JSON.stringify(due)) continue;
          const told = (list: typeof rows): string =>
            list
              .map(({ ids, mask }) => {
                const words = ids.map((id, j) => [
                  tokenizer.decodeContinuation([id], false),
                  mask[j],
                ]);
                return words.map(([text, flag]) => (flag === 1 ? `⟦${text}⟧` : text)).join('');
              })
              .join(' ### ')
              .replaceAll('⟧⟦', '');
          wrong.push(`${title}:\n  ours ${told(rows)}\n  due  ${told(due)}`);
        }
        assert.deepEqual(wrong, []);
      });
    }
  }
});
