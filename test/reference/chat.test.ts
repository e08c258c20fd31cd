/** What is trained of a conversation is what Transformers' assistant mask says (values: make_chat_reference.py). */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { describe, it } from 'node:test';
import { z } from 'zod';
import { openChatTemplate } from '../../node/data/chat-template.js';
import { tokeniseRecord } from '../../node/data/tokenise.js';
import { openTokenizer } from '../../node/data/tokenizer.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { textReference } from '../unit/model/fixtures.js';

const reference = z.object({
  cases: z.array(
    z.object({
      messages: z.array(z.object({ role: z.string(), content: z.string() })),
      ids: z.array(z.int()),
      mask: z.array(z.union([z.literal(0), z.literal(1)])),
    }),
  ),
});

describe('conversations are trained as Transformers does', () => {
  // Another model with a ChatML template: MURMURATE_CHAT_MODEL, and in MURMURATE_CHAT_MASKS what the script wrote of it.
  const dir = process.env['MURMURATE_CHAT_MODEL'] ?? EMBEDDED_MODEL_DIRECTORY;
  const file = process.env['MURMURATE_CHAT_MASKS'] ?? textReference('chat-masks.json');

  it('in the same ids, and the same of them trained', async () => {
    const { cases } = reference.parse(JSON.parse(await readFile(file, 'utf8')));
    const { config } = await openModelDirectory(dir);
    const tokenizer = await openTokenizer(dir, config);
    const chatTemplate = await openChatTemplate(dir);
    assert.equal(cases.length, 5);
    for (const { messages, ids, mask } of cases) {
      const record = { kind: 'messages' as const, messages, line: 1 };
      const { tokens, trained } = tokeniseRecord(record, 'f', { tokenizer, chatTemplate });
      assert.deepEqual(tokens, ids);
      assert.deepEqual(trained, mask);
    }
  });
});
