import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { openChatTemplate, type ChatTemplate } from '../../../node/data/chat-template.js';
import { Scratch, TINY_BASE, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const CONVERSATION = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Who?' },
  { role: 'assistant', content: 'Me.' },
  { role: 'user', content: 'Why?' },
  { role: 'assistant', content: 'So.' },
  { role: 'user', content: 'Thanks.' },
];

async function templateOf(source: string, config: object = {}): Promise<ChatTemplate> {
  const dir = await scratch.directory();
  await writeFile(join(dir, 'chat_template.jinja'), source);
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify(config));
  const template = await openChatTemplate(dir);
  assert.ok(template);
  return template;
}

describe('openChatTemplate', () => {
  it('renders as the model was trained', async () => {
    const template = await openChatTemplate(TINY_BASE);
    assert.equal(
      template?.render(CONVERSATION.slice(0, 2), true),
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n',
    );
    assert.equal(
      template.render(CONVERSATION.slice(1, 3), false),
      '<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nMe.<|im_end|>\n',
    );
  });

  it('finds an older template in tokenizer_config.json, alone or in a list, and gives it bos and eos', async () => {
    const dir = await scratch.directory();
    const source = '{{ bos_token }}{{ messages[0].content }}{{ eos_token }}';
    const write = (chat_template: unknown): Promise<void> =>
      writeFile(
        join(dir, 'tokenizer_config.json'),
        JSON.stringify({ bos_token: '<s>', eos_token: { content: '</s>' }, chat_template }),
      );
    const named = [
      { name: 'tools', template: 'no' },
      { name: 'default', template: source },
    ];
    for (const form of [source, named]) {
      await write(form);
      const template = await openChatTemplate(dir);
      assert.equal(template?.render([{ role: 'user', content: 'hi' }], false), '<s>hi</s>');
    }
    await write(named.slice(0, 1));
    assert.equal(await openChatTemplate(dir), null);
    await writeFile(join(dir, 'chat_template.jinja'), 'its own file comes first');
    assert.equal((await openChatTemplate(dir))?.render([], false), 'its own file comes first');
    assert.equal(await openChatTemplate(await scratch.directory()), null);
  });

  it('says when a template is damaged or refuses the conversation', async () => {
    await assert.rejects(
      templateOf('{% for message in messages %}{{ message.content '),
      userError(/the chat template of .* cannot be read \(.*\): get the model's own/),
    );
    const strict = await templateOf(
      "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
    );
    assert.throws(
      () => strict.render(CONVERSATION, false),
      userError(/does not take this conversation \(no system role\): check the order of the roles/),
    );
  });
});
