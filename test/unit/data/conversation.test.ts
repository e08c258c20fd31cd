import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openChatTemplate } from '../../../node/data/chat-template.js';
import {
  fitConversation,
  PLAIN_FORMAT,
  plainFormat,
  templateFormat,
} from '../../../node/data/conversation.js';
import { readGenerationEnds } from '../../../node/data/generation-config.js';
import { openTokenizer, type Tokenizer } from '../../../node/data/tokenizer.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import { Scratch, TINY_BASE, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const user = (content: string): { role: string; content: string } => ({ role: 'user', content });
const assistant = (content: string): { role: string; content: string } => ({
  role: 'assistant',
  content,
});

describe('a conversation', () => {
  let tokenizer: Tokenizer;
  before(async () => {
    const { config, dir } = await openModelDirectory(TINY_BASE);
    tokenizer = await openTokenizer(dir, config);
  });

  it("is the chat template's text, and ends with the token that it puts after an answer", async () => {
    const template = await openChatTemplate(TINY_BASE);
    const format = templateFormat(template!, tokenizer);
    const text = tokenizer.decode(format.prompt([user('a'), assistant('b'), user('c')]), false);
    assert.equal(
      text,
      '<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n' +
        '<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n',
    );
    assert.deepEqual(format.ends, tokenizer.encode('<|im_end|>'));
  });

  it('is a plain transcript where the model has no template', () => {
    const format = plainFormat(PLAIN_FORMAT, tokenizer);
    const system = { role: 'system', content: 'Be brief.' };
    const ids = format.prompt([system, user('a'), assistant('b'), user('c')]);
    assert.equal(
      tokenizer.decode(ids, false),
      'Be brief.\n\nUser: a\nAssistant: b\nUser: c\nAssistant:',
    );
    assert.deepEqual([format.ends, format.stops], [[], ['\nUser:']]);
  });

  it('takes the form of the data that an adapter was trained on', () => {
    const format = plainFormat('Q: {}\nA:', tokenizer);
    assert.equal(tokenizer.decode(format.prompt([user('Who?')]), false), 'Q: Who?\nA:');
    assert.deepEqual(format.stops, ['\nQ:']);
    assert.throws(
      () => format.prompt([{ role: 'tool', content: 'x' }]),
      userError(/role "tool", which a plain conversation does not know/),
    );
    for (const wrong of ['Q:', '{} {}', '{}', '']) {
      assert.throws(() => plainFormat(wrong, tokenizer), userError(/must hold \{\} once/));
    }
  });

  it('loses its oldest turns for want of room, never its system message or its last question', () => {
    const format = plainFormat(PLAIN_FORMAT, tokenizer);
    const system = { role: 'system', content: 'Be brief.' };
    const messages = [system, user('a'), assistant('b'), user('c'), assistant('d'), user('e')];
    const whole = format.prompt(messages).length;
    assert.equal(fitConversation(format, messages, whole)?.dropped, 0);
    const fitted = fitConversation(format, messages, whole - 1);
    assert.deepEqual(fitted?.messages, [system, user('c'), assistant('d'), user('e')]);
    assert.equal(fitted.dropped, 2);
    const least = format.prompt([system, user('e')]).length;
    assert.deepEqual(fitConversation(format, messages, least)?.messages, [system, user('e')]);
    assert.equal(fitConversation(format, messages, least - 1), null);
  });
});

describe('readGenerationEnds', () => {
  const read = async (text: string | null): Promise<number[]> => {
    const dir = await scratch.directory();
    if (text !== null) await writeFile(join(dir, 'generation_config.json'), text);
    return readGenerationEnds(dir);
  };

  it('reads one id, several, or none', async () => {
    assert.deepEqual(await read('{"eos_token_id": 7}'), [7]);
    assert.deepEqual(await read('{"eos_token_id": [7, 9]}'), [7, 9]);
    for (const none of ['{"eos_token_id": null}', '{}', null])
      assert.deepEqual(await read(none), []);
  });

  it('refuses a damaged file', async () => {
    await assert.rejects(read('{'), userError(/not valid JSON/));
    await assert.rejects(read('{"eos_token_id": "end"}'), userError(/a token id or a list/));
  });
});
