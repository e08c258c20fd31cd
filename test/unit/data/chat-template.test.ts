import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
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

  it('has every special token of the model, and None for tools and documents that are not there', async () => {
    const source =
      "{{ pad_token + unk_token + image_token }}{{ 'tools' if tools is not none }}{{ 'documents' if documents is not none }}{{ messages[0].content }}";
    const template = await templateOf(source, {
      ...{ pad_token: '<pad>', unk_token: { content: '<unk>' } },
      extra_special_tokens: { image_token: '<image>' },
    });
    const hi = [{ role: 'user', content: '!' }];
    assert.equal(template.render(hi, false), '<pad><unk><image>!');
    assert.equal(
      template.render(hi, false, { tools: [], documents: [] }),
      '<pad><unk><image>toolsdocuments!',
    );
    assert.equal(template.names('image'), false);
    assert.equal((await templateOf("{{ m.role == 'tool' }}")).names('tool'), true);
  });

  it('gives variables of the data and the date to the template', async () => {
    const dir = await scratch.directory();
    await writeFile(join(dir, 'chat_template.jinja'), "{{ strftime_now('%Y') }}{{ mood }}");
    const template = await openChatTemplate(dir, { now: () => new Date(2030, 0, 1) });
    assert.equal(template?.render([], false, { variables: { mood: 'fine' } }), '2030fine');
  });

  it('takes a template of its own for tools where there is one', async () => {
    const dir = await scratch.directory();
    const chat_template = [
      { name: 'default', template: 'plain' },
      { name: 'tool_use', template: 'with tools' },
    ];
    await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify({ chat_template }));
    const template = await openChatTemplate(dir);
    assert.equal(template?.render([], false), 'plain');
    assert.equal(template.render([], false, { tools: [{}] }), 'with tools');
  });

  it('finds the template for tools in the folder beside, and lists tokens that have no name', async () => {
    const dir = await scratch.directory();
    const write = (name: string, text: string): Promise<void> => writeFile(join(dir, name), text);
    await mkdir(join(dir, 'additional_chat_templates'));
    await write('chat_template.jinja', "{{ additional_special_tokens | join('+') }}");
    await write('additional_chat_templates/tool_use.jinja', 'with tools');
    await write('tokenizer_config.json', '{"additional_special_tokens": ["<a>", "<b>"]}');
    const template = await openChatTemplate(dir);
    assert.equal(template?.render([], false), '<a>+<b>');
    assert.equal(template.render([], false, { tools: [{}] }), 'with tools');
  });

  it('takes special tokens from the file of older models, unless the newer one lists added tokens', async () => {
    const dir = await scratch.directory();
    const write = (name: string, text: string): Promise<void> => writeFile(join(dir, name), text);
    await write('chat_template.jinja', '{{ bos_token }}{{ eos_token }}');
    await write(
      'special_tokens_map.json',
      '{"bos_token": {"content": "<s>"}, "eos_token": "</s>"}',
    );
    await write('tokenizer_config.json', '{"eos_token": "<|end|>"}');
    assert.equal((await openChatTemplate(dir))?.render([], false), '<s></s>');
    await write('tokenizer_config.json', '{"eos_token": "<|end|>", "added_tokens_decoder": {}}');
    assert.equal((await openChatTemplate(dir))?.render([], false), '<|end|>');
  });

  it('finds a template of a model with pictures, and gives contents as parts to one that reads them', async () => {
    const dir = await scratch.directory();
    const chat_template =
      '{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}';
    await writeFile(join(dir, 'chat_template.json'), JSON.stringify({ chat_template }));
    const template = await openChatTemplate(dir);
    assert.equal(template?.render([{ role: 'user', content: 'hello' }], false), 'hello');
  });

  it('gives the arguments of calls as the template takes them', async () => {
    const call = { function: { name: 'f', arguments: { a: 1 } } };
    const messages = [
      { role: 'user', content: 'q' },
      { role: 'assistant', content: null, tool_calls: [call] },
    ];
    const loop = (what: string): string =>
      `{% for m in messages %}{% for c in m.tool_calls or [] %}${what}{% endfor %}{% endfor %}`;
    for (const what of ['{{ c.function.arguments | tojson }}', "{{ '' + c.function.arguments }}"]) {
      const text = (await templateOf(loop(what))).render(messages, false);
      assert.equal(text.replaceAll(' ', ''), '{"a":1}', what);
    }
  });

  it('leaves out the words that a call lacks, in whatever way the template has for it', async () => {
    const messages = [
      { role: 'assistant', content: null, tool_calls: [{ function: { name: 'f' } }] },
    ];
    const ways = [
      "{{ messages[0].content or '' }}",
      "{{ messages[0]['content'] + '' }}",
      '{{ messages[0].content | tojson }}',
      '{{ messages[0].content }}',
    ];
    for (const way of ways) {
      const text = (await templateOf(`[${way}]`)).render(messages, false);
      assert.match(text, /^\[("")?\]$/, way);
    }
    const wanted = '{% if messages[0].content is none %}call{% endif %}';
    assert.equal((await templateOf(wanted)).render(messages, false), 'call');
  });

  it('gives thoughts by each name that templates read', async () => {
    for (const name of ['reasoning_content', 'thinking', 'reasoning']) {
      const messages = [{ role: 'assistant', content: 'a', [name]: 'Hm.' }];
      const source = '{{ messages[0].reasoning_content }}{{ messages[0].thinking }}';
      assert.equal((await templateOf(source)).render(messages, false), 'Hm.Hm.');
    }
  });
});
