import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, before, beforeEach, describe, it } from 'node:test';
import { ChatSession, type ChatInit, type Voice } from '../../../node/cli/chat-session.js';
import { openLineInput } from '../../../node/cli/line-input.js';
import { PLAIN_FORMAT, plainFormat } from '../../../node/data/conversation.js';
import { openTokenizer, type Tokenizer } from '../../../node/data/tokenizer.js';
import type { ModelConfig } from '../../../node/model/config.js';
import { openModelDirectory } from '../../../node/model/model-directory.js';
import type { NextTokenModel } from '../../../node/model/next-token-model.js';
import { Scratch, TINY_BASE } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());
const never = new AbortController().signal;

/** Writes one answer after the other, whatever it is asked, and remembers what it was asked. */
class Parrot implements NextTokenModel {
  readonly asked: string[] = [];
  readonly capacity = 60;
  length = 0;
  private readonly unwritten: number[] = [];
  onRead = (): void => undefined;

  constructor(
    readonly config: ModelConfig,
    private readonly tokenizer: Tokenizer,
    private readonly answers: string[],
  ) {}

  async read(tokens: readonly number[]): Promise<Float32Array> {
    if (this.length === 0) {
      this.asked.push(this.tokenizer.decode(tokens, false));
      const answer = this.tokenizer.encode(this.answers.shift() ?? '');
      this.unwritten.splice(0, Infinity, ...answer, this.tokenizer.eosTokenId);
    }
    this.length += tokens.length;
    await new Promise(setImmediate);
    this.onRead();
    const logits = new Float32Array(this.config.vocabSize);
    logits[this.unwritten.shift()!] = 1;
    return logits;
  }

  forget(): void {
    this.length = 0;
  }

  async dispose(): Promise<void> {
    // Nothing to free.
  }
}

describe('a chat', () => {
  let tokenizer: Tokenizer;
  let config: ModelConfig;
  before(async () => {
    const opened = await openModelDirectory(TINY_BASE);
    config = opened.config;
    tokenizer = await openTokenizer(opened.dir, config);
  });

  let out = '';
  let notes = '';
  let reloads = 0;
  let session: ChatSession;
  let isNewer = false;
  beforeEach(() => {
    [out, notes, reloads, isNewer] = ['', '', 0, false];
  });

  function collect(take: (text: string) => void): PassThrough {
    return new PassThrough().setEncoding('utf8').on('data', take);
  }

  /** What stands on stdout after these lines. */
  async function talk(
    lines: string[],
    voices: Voice[],
    more: Partial<ChatInit['options']> = {},
  ): Promise<string> {
    const options = { system: null, maxTokens: 20, temperature: 0, topP: 1, seed: 's', ...more };
    const [stdout, stderr] = [collect((text) => (out += text)), collect((text) => (notes += text))];
    session = new ChatSession({
      ...{ voices, tokenizer, format: plainFormat(PLAIN_FORMAT, tokenizer), ends: [], options },
      ...{ out: stdout, notes: stderr, isTerminal: false, isTyped: false },
      watch: { isNewer: async () => isNewer } as unknown as NonNullable<ChatInit['watch']>,
      content: null,
      reload: async () => `reloaded ${++reloads}`,
    });
    const stdin = new PassThrough();
    stdin.end(lines.map((line) => `${line}\n`).join(''));
    await session.run(
      openLineInput(stdin, stdout, () => undefined),
      never,
    );
    return out;
  }

  const parrot = (...answers: string[]): Parrot => new Parrot(config, tokenizer, answers);

  it('answers each line of a pipe, and keeps what was said', async () => {
    const model = parrot(' Anna.', ' In bay 3.');
    assert.equal(
      await talk(['Who?', '', 'Where?'], [{ name: 'swarm', model }]),
      'Anna.\nIn bay 3.\n',
    );
    assert.deepEqual(model.asked, [
      'User: Who?\nAssistant:',
      'User: Who?\nAssistant: Anna.\nUser: Where?\nAssistant:',
    ]);
  });

  it('ends an answer where the model would go on as the user', async () => {
    const model = parrot(' Anna.\nUser: And then?');
    assert.equal(await talk(['Who?'], [{ name: 'swarm', model }]), 'Anna.\n');
  });

  it('forgets at /reset, begins anew at /system, and takes // for a slash', async () => {
    const model = parrot('a', 'b', 'c', 'd');
    await talk(
      ['1', '/reset', '2', '/system Be brief.', '//3', '/quit', '4'],
      [{ name: 's', model }],
    );
    assert.deepEqual(model.asked, [
      'User: 1\nAssistant:',
      'User: 2\nAssistant:',
      'Be brief.\n\nUser: /3\nAssistant:',
    ]);
  });

  it('says in one line that the oldest turns left, and that an answer was cut', async () => {
    const model = parrot(' one two three four five six', ' ok', ' ok');
    const long = 'a b c d e f g h i j k l';
    await talk([long, long, long], [{ name: 'swarm', model }], { maxTokens: 4 });
    assert.match(notes, /cut after 4 tokens: see --max-tokens\n/);
    assert.match(notes, /swarm: the oldest \d messages left, for want of room\n/);
    assert.ok(!model.asked.at(-1)!.includes('one two'), model.asked.at(-1));
    await talk(['x '.repeat(80)], [{ name: 'swarm', model }]);
    assert.match(notes, /the message does not fit: of --context 60 tokens 20 are for the answer/);
  });

  it('has base and adapter answer the same, each in a conversation of its own', async () => {
    const [base, adapted] = [parrot(' x', ' y'), parrot(' Anna', ' Bay 3')];
    const voices = [
      { name: 'base', model: base },
      { name: 'swarm', model: adapted },
    ];
    const text = await talk(['Who?', 'Where?'], voices);
    assert.equal(text, 'base> x\nswarm> Anna\nbase> y\nswarm> Bay 3\n');
    assert.match(base.asked[1]!, /Assistant: x\nUser: Where/);
    assert.match(adapted.asked[1]!, /Assistant: Anna\nUser: Where/);
  });

  it('saves the conversation as data, and no file twice', async () => {
    const dir = await scratch.directory();
    const file = join(dir, 'talk.jsonl');
    await talk(
      ['Who?', `/save ${file}`, `/save ${file}`],
      [{ name: 'swarm', model: parrot(' Anna.') }],
    );
    assert.deepEqual(JSON.parse(await readFile(file, 'utf8')), {
      messages: [
        { role: 'user', content: 'Who?' },
        { role: 'assistant', content: 'Anna.' },
      ],
    });
    assert.match(notes, /is there already: give another name/);
    await writeFile(join(dir, 'x'), '');
    await talk(['/save', `/save ${join(dir, 'x', 'y')}`], [{ name: 's', model: parrot() }]);
    assert.match(notes, /\/save needs the name of a file/);
    assert.match(notes, /cannot be written \(ENOTDIR\)/);
  });

  it('says that there is a newer adapter, and takes it when asked', async () => {
    isNewer = true;
    await talk(['Who?', '/reload', '/nope'], [{ name: 'swarm', model: parrot('a') }]);
    assert.match(notes, /a newer adapter is there: \/reload takes it\n/);
    assert.match(notes, /adapter: reloaded 1\n/);
    assert.match(notes, /there is no command \/nope; \/help lists those that are\n/);
  });

  it('stops an answer at Ctrl-C and goes on; twice in a row ends', async () => {
    const model = parrot(' one two three four five', ' next');
    const lines = talk(['Who?', 'Where?'], [{ name: 'swarm', model }]);
    model.onRead = ((count) => () => {
      if (++count === 3) session.onCtrlC(() => assert.fail('not the end'));
    })(0);
    assert.match(await lines, /^one two three\nnext\n$/);
    assert.match(notes, /stopped\n/);
    assert.match(model.asked[1]!, /Assistant: one two three\nUser: Where/);
    let ended = 0;
    session.onCtrlC(() => (ended += 1));
    assert.equal(ended, 0);
    assert.match(notes, /Ctrl-C again, or \/quit, ends/);
    session.onCtrlC(() => (ended += 1));
    assert.equal(ended, 1);
  });
});
