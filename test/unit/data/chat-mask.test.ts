import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { maskConversation, type MaskedText } from '../../../node/data/chat-mask.js';
import { openChatTemplate, type ChatMessage } from '../../../node/data/chat-template.js';
import { Scratch, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const SPECIAL = ['<|start|>', '<|end|>', '<|user|>', '<|eos|>', '</s>', '[/INST]'];

interface Asked {
  messages: readonly ChatMessage[];
  emptyThoughts?: boolean;
  tools?: readonly unknown[];
}

async function mask(
  source: string,
  { messages, emptyThoughts = false, tools }: Asked,
): Promise<ReturnType<typeof maskConversation>> {
  const dir = await scratch.directory();
  await writeFile(join(dir, 'chat_template.jinja'), source);
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify({ eos_token: '<|eos|>' }));
  const template = await openChatTemplate(dir);
  assert.ok(template);
  const specialTokens = new Set(SPECIAL);
  return maskConversation(template, messages, tools === undefined ? {} : { tools }, {
    specialTokens,
    emptyThoughts,
  });
}

/** What is trained in brackets. */
function shown({ text, trained }: MaskedText): string {
  let [out, done] = ['', 0];
  for (const [start, end] of trained) {
    out += `${text.slice(done, start)}⟦${text.slice(start, end)}⟧`;
    done = end;
  }
  return out + text.slice(done);
}

async function rows(source: string, asked: Asked): Promise<string[]> {
  return (await mask(source, asked)).texts.map(shown);
}

const user = (content: string): ChatMessage => ({ role: 'user', content });
const assistant = (content: string, more: object = {}): ChatMessage => ({
  role: 'assistant',
  content,
  ...more,
});
const TALK = [user('Who?'), assistant('Anna.'), user('Why?'), assistant('So.')];

/** Headers and ends of turns as ChatML has them. */
const turns = (answer: string, end = ''): string =>
  `{%- for m in messages %}{%- if m.role == 'assistant' %}${answer}{%- else %}{{- '<|start|>' + m.role + ':' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|start|>assistant:' }}{%- else %}${end}{%- endif %}`;
const PLAIN = turns("{{- '<|start|>assistant:' + m.content + '<|end|>' }}");

describe('what is trained of a conversation without marks', () => {
  it("is what the assistant says, with the end of its turn and nothing of the next one's header", async () => {
    assert.deepEqual(await rows(PLAIN, { messages: [...TALK, user('Thanks.')] }), [
      '<|start|>user:Who?<|end|><|start|>assistant:⟦Anna.<|end|>⟧<|start|>user:Why?<|end|>' +
        '<|start|>assistant:⟦So.<|end|>⟧<|start|>user:Thanks.<|end|>',
    ]);
  });

  it('is found although a finished conversation ends in another token', async () => {
    const ending = turns(
      "{{- '<|start|>assistant:' + m.content + '<|end|>\\n' }}",
      '{{- eos_token }}',
    );
    assert.deepEqual(await rows(ending, { messages: TALK }), [
      '<|start|>user:Who?<|end|><|start|>assistant:⟦Anna.<|end|>\n⟧<|start|>user:Why?<|end|>' +
        '<|start|>assistant:⟦So.<|end|>\n<|eos|>⟧',
    ]);
  });

  it('has no half of a token that begins as the next header does', async () => {
    const shared =
      '{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% else %}<|eos|>{% endif %}';
    assert.deepEqual(await rows(shared, { messages: TALK }), [
      '<user>Who?\n<assistant>⟦Anna.\n⟧<user>Why?\n<assistant>⟦So.\n<|eos|>⟧',
    ]);
  });

  it('is found although the generation prompt begins a thought that the answer lacks', async () => {
    const prefilled =
      "{% for m in messages %}{{ (m.content + '<|start|>') if m.role == 'user' else m.content + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}";
    assert.deepEqual(await rows(prefilled, { messages: TALK.slice(0, 2) }), [
      'Who?<|start|>⟦Anna.<|eos|>⟧',
    ]);
  });

  it('has no words of the same kind elsewhere: what stands twice is told by its place', async () => {
    const messages = [user('assistant:'), assistant('assistant:'), user('a'), assistant('a')];
    assert.deepEqual(await rows(PLAIN, { messages }), [
      '<|start|>user:assistant:<|end|><|start|>assistant:⟦assistant:<|end|>⟧' +
        '<|start|>user:a<|end|><|start|>assistant:⟦a<|end|>⟧',
    ]);
  });

  it('includes a space that belongs to the answer, and calls in the words of the template', async () => {
    const spaced =
      "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content | trim + ' </s>' }}{% endif %}{% endfor %}";
    assert.deepEqual(await rows(spaced, { messages: TALK.slice(0, 2) }), [
      '[INST] Who? [/INST]⟦ Anna. </s>⟧',
    ]);
    const calls = turns(
      "{{- '<|start|>assistant:' + (m.content or '') }}{%- for c in m.tool_calls or [] %}{{- '<call>' + c.function.name }}{{- c.function.arguments | tojson }}{%- endfor %}{{- '<|end|>' }}",
    );
    const call = { function: { name: 'find', arguments: { colour: 'red' } } };
    const messages = [user('Key?'), { role: 'assistant', content: null, tool_calls: [call] }];
    assert.deepEqual(await rows(calls, { messages }), [
      '<|start|>user:Key?<|end|><|start|>assistant:⟦<call>find{"colour": "red"}<|end|>⟧',
    ]);
  });

  it('leaves out an empty block of thoughts that the template adds, unless that is asked for', async () => {
    const thoughts = turns(
      "{{- '<|start|>assistant:<think>' + (m.reasoning_content or '') + '</think>' + m.content + '<|end|>' }}",
    );
    const [head, answer] = ['<|start|>user:Who?<|end|><|start|>assistant:', 'Anna.<|end|>'];
    const messages = TALK.slice(0, 2);
    assert.deepEqual(await rows(thoughts, { messages }), [`${head}<think></think>⟦${answer}⟧`]);
    assert.deepEqual(await rows(thoughts, { messages, emptyThoughts: true }), [
      `${head}⟦<think></think>${answer}⟧`,
    ]);
    const thinking = [user('Who?'), assistant('Anna.', { reasoning_content: 'Hm.' })];
    assert.deepEqual(await rows(thoughts, { messages: thinking }), [
      `${head}⟦<think>Hm.</think>${answer}⟧`,
    ]);
  });

  it('is a text for each answer where the template forgets what was said before', async () => {
    const forgetful = turns(
      "{{- '<|start|>assistant:' + (m.reasoning_content or '' if loop.last else '') + m.content + '<|end|>' }}",
    );
    const messages = [
      ...[user('Who?'), assistant('Anna.', { reasoning_content: '(Hm.)' })],
      ...[user('Why?'), assistant('So.', { reasoning_content: '(Oh.)' })],
    ];
    assert.deepEqual(await rows(forgetful, { messages }), [
      '<|start|>user:Who?<|end|><|start|>assistant:⟦(Hm.)Anna.<|end|>⟧',
      '<|start|>user:Who?<|end|><|start|>assistant:Anna.<|end|>' +
        '<|start|>user:Why?<|end|><|start|>assistant:⟦(Oh.)So.<|end|>⟧',
    ]);
  });

  it('has the thoughts that the template always drops, where the model writes them', async () => {
    const dropping =
      "{% for m in messages %}{{ (m.content + '<|start|>') if m.role == 'user' else m.content.split('</think>')[-1] + eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<think>\\n' }}{% endif %}";
    const inWords = [user('6*7?'), assistant('<think>\nSix sevens.\n</think>\n\n42')];
    const inField = [user('6*7?'), assistant('42', { reasoning_content: 'Six sevens.' })];
    for (const messages of [inWords, inField]) {
      const { texts, dropped } = await mask(dropping, { messages });
      assert.deepEqual(texts.map(shown), [
        '6*7?<|start|><think>\n⟦Six sevens.\n</think>\n\n42<|eos|>⟧',
      ]);
      assert.deepEqual(dropped, []);
    }
  });

  it('is no role that a template without a generation prompt puts before each turn', async () => {
    const roles =
      "{% for m in messages %}{{ '<|start|>' + m.role + ':' + m.content + '<|end|>' }}{% endfor %}";
    assert.deepEqual(await rows(roles, { messages: TALK.slice(0, 2) }), [
      '<|start|>user:Who?<|end|><|start|>assistant:⟦Anna.<|end|>⟧',
    ]);
  });

  it('is open where nothing ends the last answer', async () => {
    const endless = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}";
    const { texts } = await mask(endless, { messages: TALK });
    assert.equal(texts[0]?.isOpen, true);
    assert.equal((await mask(PLAIN, { messages: TALK })).texts[0]?.isOpen, false);
  });

  it('has no header that the template always puts at the end', async () => {
    const always =
      "{% for m in messages %}{{ '### ' + m.role + '\n' + m.content + '\n' }}{% endfor %}{{ '### assistant\n' }}";
    const [text] = await rows(always, { messages: TALK.slice(0, 2) });
    assert.equal(text, '### user\nWho?\n### assistant\n⟦Anna.\n⟧### assistant\n');
  });
});

describe('what is trained of a conversation with marks', () => {
  const marked = turns(
    "{{- '<|start|>assistant:' }}{%- generation %}{{- m.content + '<|end|>' }}{%- endgeneration %}{{- '\\n' }}",
  );

  it('is exactly what stands between them', async () => {
    assert.deepEqual(await rows(marked, { messages: TALK }), [
      '<|start|>user:Who?<|end|><|start|>assistant:⟦Anna.<|end|>⟧\n<|start|>user:Why?<|end|>' +
        '<|start|>assistant:⟦So.<|end|>⟧\n',
    ]);
  });

  it('is a text for each answer of which the template forgets a part later', async () => {
    const forgetful = turns(
      "{{- '<|start|>assistant:' }}{%- generation %}{{- (m.content if loop.last else m.content.split(')')[-1]) + '<|end|>' }}{%- endgeneration %}",
    );
    const messages = [user('Who?'), assistant('(Hm.)Anna.'), user('Why?'), assistant('So.')];
    assert.deepEqual(await rows(forgetful, { messages }), [
      '<|start|>user:Who?<|end|><|start|>assistant:⟦(Hm.)Anna.<|end|>⟧',
      '<|start|>user:Who?<|end|><|start|>assistant:Anna.<|end|>' +
        '<|start|>user:Why?<|end|><|start|>assistant:⟦So.<|end|>⟧',
    ]);
  });

  it('is none of a turn that says no', async () => {
    const messages = [user('Who?'), assistant('Anna.', { weight: 0 }), ...TALK.slice(2)];
    for (const source of [marked, PLAIN]) {
      const [text] = await rows(source, { messages });
      assert.match(text ?? '', /assistant:Anna.*⟦So\.<\|end\|>⟧/s);
    }
  });
});

describe('what a template leaves out', () => {
  it('is named by turn and field', async () => {
    const deaf = turns("{{- '<|start|>assistant:' + m.content + '<|end|>' }}").replace(
      '+ m.content +',
      "+ m.content.split('#')[0] +",
    );
    const call = { function: { name: 'find', arguments: {} } };
    const messages = [
      ...[
        user('Who?'),
        assistant('Anna. # thinks', { tool_calls: [call], reasoning_content: 'Hm.' }),
      ],
      ...[{ role: 'tool', content: 'x' }, assistant('Yes.', { function_call: { name: 'x' } })],
    ];
    const tools = [{ type: 'function', function: { name: 'find' } }];
    const { dropped } = await mask(deaf, { messages, tools });
    assert.deepEqual(
      dropped.map(({ turn, field }) => `${turn ?? 'all'} ${field}`),
      ['2 content', '2 reasoning_content', '2 tool_calls', '4 function_call', 'all tools'],
    );
  });

  it('is not white space, and not what is written as JSON', async () => {
    const tight = turns("{{- '<|start|>assistant:' + m.content | trim + '<|end|>' }}").replace(
      "+ m.content + '<|end|>' }}{%- endif",
      "}}{{- m.content | tojson }}{{- '<|end|>' }}{%- endif",
    );
    const messages = [user('"Who"\nis it?'), assistant('  Anna.\n\n')];
    assert.deepEqual((await mask(tight, { messages })).dropped, []);
  });
});

describe('a conversation that cannot be told apart', () => {
  it('is refused with the turn', async () => {
    const mute =
      "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}";
    await assert.rejects(
      mask(mute, { messages: TALK }),
      userError(/^turn 2: .* in no single place/),
    );
  });
});
