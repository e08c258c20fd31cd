import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { readBefore, readContext, readTurns } from '../../../node/data/chat-columns.js';
import { trainedTurns } from '../../../node/data/chat-turns.js';
import { recordOf, USUAL_COLUMNS } from '../../../node/data/columns.js';
import type { DataRecord } from '../../../node/data/records.js';
import { userError } from '../model/fixtures.js';

const turns = (list: unknown): unknown => readTurns(list, 'messages');
const record = (fields: Record<string, unknown>, accept = {}): DataRecord =>
  recordOf({ fields, line: 1 }, 'a.jsonl', { ...USUAL_COLUMNS, ...accept });

const question = { role: 'user', content: 'Who?' };
const answer = { role: 'assistant', content: 'Anna.' };
const call = { type: 'function', function: { name: 'find', arguments: { colour: 'red' } } };

describe('turns as people write them down', () => {
  it('are those of ShareGPT, whatever the capitals', () => {
    const found = turns([
      { from: 'System', value: 's' },
      { from: 'Human', value: 'q' },
      { from: 'function_call', value: '{"name": "find", "arguments": {"colour": "red"}}' },
      { from: 'observation', value: 'o' },
      { from: 'gpt', value: 'a', weight: 0 },
    ]);
    assert.deepEqual(found, [
      { role: 'system', content: 's' },
      { role: 'user', content: 'q' },
      { role: 'assistant', content: null, tool_calls: [call] },
      { role: 'tool', content: 'o' },
      { role: 'assistant', content: 'a', weight: 0 },
    ]);
  });

  it('have the names of ShareGPT and those of OpenAI together', () => {
    assert.deepEqual(
      turns([
        { from: 'human', content: 'q' },
        { role: 'assistant', value: 'a' },
      ]),
      [
        { role: 'user', content: 'q' },
        { role: 'assistant', content: 'a' },
      ],
    );
  });

  it("are those of OpenAI's files: calls without words, arguments as text, the older kind of call", () => {
    const asText = {
      ...call,
      id: 'c1',
      function: { ...call.function, arguments: '{"colour": "red"}' },
    };
    assert.deepEqual(
      turns([{ role: 'assistant', content: null, tool_calls: [asText], refusal: null }]),
      [{ role: 'assistant', content: null, tool_calls: [{ ...call, id: 'c1' }] }],
    );
    assert.deepEqual(turns([{ role: 'assistant', function_call: asText.function }]), [
      { role: 'assistant', content: null, tool_calls: [call] },
    ]);
  });

  it('have contents of text parts, joined, and results of functions as any JSON', () => {
    const parts = [
      { type: 'text', text: 'Who ' },
      { type: 'text', text: 'is it?' },
    ];
    assert.deepEqual(turns([{ role: 'user', content: parts }]), [
      { role: 'user', content: 'Who is it?' },
    ]);
    assert.deepEqual(turns([{ role: 'tool', content: { found: 1 } }]), [
      { role: 'tool', content: '{"found": 1}' },
    ]);
  });

  it('may be a table’s JSON text, and numbers of 64 bits', () => {
    assert.deepEqual(turns(JSON.stringify([question])), [question]);
    assert.deepEqual(turns([{ ...answer, weight: 1n }]), [{ ...answer, weight: 1 }]);
  });

  it('have roles of any name, also those of JavaScript’s own', () => {
    const odd = ['__proto__', 'constructor', 'toString'].map((role) => ({ role, content: 'x' }));
    assert.deepEqual(turns(odd), odd);
  });

  it('have no lists in lists without end', () => {
    const deep = JSON.parse(`${'['.repeat(500)}${']'.repeat(500)}`) as unknown;
    const pattern = /more than 100 lists and objects in each other/;
    assert.throws(() => turns([{ ...answer, deep }]), userError(pattern));
    assert.throws(() => turns(JSON.stringify([{ ...answer, deep }])), userError(pattern));
    assert.throws(() => readContext({ tools: [deep] }), userError(pattern));
  });

  it('name the turn that cannot be read', () => {
    const wrong: [unknown, RegExp][] = [
      [[question, { role: 'user' }], /^turn 2 of "messages": "content" is null, but must be text/],
      [[{ role: 'user', content: 5 }], /"content" is a number/],
      [[{ content: 'a' }], /"role" is null/],
      [['a'], /turn 1 of "messages": must be an object/],
      [[{ role: 'user', content: [{ type: 'image_url' }] }], /a part of the type "image_url"/],
      [[{ role: 'assistant', tool_calls: [{}] }], /a tool call without the "name"/],
      [[{ role: 'assistant', tool_calls: 7 }], /"tool_calls" is a number/],
      ['text', /must be a list of 1 to 256 turns/],
    ];
    for (const [list, pattern] of wrong) assert.throws(() => turns(list), userError(pattern));
  });
});

describe('columns beside an example', () => {
  it('give tools, documents and variables to the template', () => {
    const older = { name: 'find', parameters: {} };
    assert.deepEqual(readContext({ functions: [older] }).tools, [
      { type: 'function', function: older },
    ]);
    assert.deepEqual(readContext({ tools: '[{"type": "function"}]' }).tools, [
      { type: 'function' },
    ]);
    const variables = { enable_thinking: false, messages: 'mine' };
    assert.deepEqual(readContext({ chat_template_kwargs: variables }).variables, {
      enable_thinking: false,
    });
    assert.throws(() => readContext({ tools: 'none' }), userError(/"tools" is a string/));
  });

  it('hold the system message and the turns before', () => {
    assert.deepEqual(readBefore({ system: 's', history: [['q', 'a']] }), [
      { role: 'system', content: 's' },
      { role: 'user', content: 'q' },
      { role: 'assistant', content: 'a' },
    ]);
    assert.throws(() => readBefore({ history: [['q']] }), userError(/entry 1 of "history"/));
  });

  it('are read with Alpaca’s instructions and with conversations', () => {
    const alpaca = { instruction: 'i', input: '', output: 'o', system: 's', history: [['q', 'a']] };
    const read = record(alpaca);
    assert.ok(read.kind === 'instruction');
    assert.deepEqual(
      read.before?.map(({ content }) => content),
      ['s', 'q', 'a'],
    );
    const chat = record({
      conversations: [question, answer],
      system: 's',
      tools: [],
      parallel_tool_calls: true,
    });
    assert.ok(chat.kind === 'messages');
    assert.deepEqual(chat.messages, [{ role: 'system', content: 's' }, question, answer]);
    assert.equal(chat.context, undefined);
  });

  it('are refused by name where nobody reads them, unless that is accepted', () => {
    const unread = [
      { messages: [question, answer], history: [['q', 'a']] },
      { messages: [{ role: 'system', content: 's' }, question, answer], system: 'other' },
      { prompt: 'p', completion: 'c', tools: [call] },
    ];
    for (const fields of unread) {
      assert.throws(
        () => record(fields),
        userError(/a.jsonl, line 1: "\w+" says something that would be left out.*--accept-dropped/),
      );
      assert.doesNotThrow(() => record(fields, { acceptDropped: true }));
    }
    assert.doesNotThrow(() => record({ messages: [question, answer], history: [], system: '' }));
  });

  it('are refused by name where they make of it no example of what to say', () => {
    const chat = { messages: [question, answer] };
    const unlike = [
      ...[
        { prompt: 'p', completion: 'c', label: false },
        { ...chat, kto_tag: 'False' },
      ],
      ...[
        { ...chat, chosen: answer, rejected: answer },
        { ...chat, images: ['a.png'] },
      ],
      { prompt: 'p', completion: 'c', weight: 0 },
    ];
    for (const fields of unlike) {
      assert.throws(
        () => record(fields),
        userError(/a.jsonl, line 1: "\w+" makes this example another one.*--accept-dropped/),
      );
      assert.doesNotThrow(() => record(fields, { acceptDropped: true }));
    }
    const like = [
      { ...chat, label: true, weight: 1, images: [] },
      { text: 't', label: 0 },
    ];
    for (const fields of like) assert.doesNotThrow(() => record(fields));
    const preferred = { chosen: [question, answer], rejected: [question, answer] };
    assert.doesNotThrow(() => record(preferred, { messages: 'chosen' }), 'the user says which');
  });

  it('say which turns are trained, for all of them', () => {
    const four = [question, answer, question, answer];
    const read = record({ messages: four, loss_mask: [0, 0, 0, 1] });
    assert.ok(read.kind === 'messages');
    assert.deepEqual(trainedTurns(read.messages), [3]);
    assert.throws(
      () => record({ messages: four, loss_mask: [1] }),
      userError(/"loss_mask" is a list of 1, but must be .* each of the 4 turns/),
    );
  });

  it('are a prompt and a completion of turns, of which the completion is trained', () => {
    const read = record({ prompt: [question, answer, question], completion: [answer] });
    assert.ok(read.kind === 'messages');
    assert.deepEqual(
      read.messages.map(({ train }) => train),
      [false, false, false, undefined],
    );
  });
});
