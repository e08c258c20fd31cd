/** The OpenAI-compatible server and the exports as real processes; the client is OpenAI's own. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import OpenAI from 'openai';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { writePeftAdapter } from '../../node/model/peft.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../../node/version.js';
import { adapterLayout, initialAdapter } from '../../protocol/adapter.js';
import { embeddedRun, writePersonalPeer } from '../support/personal-peer.js';
import { CommandLine, until } from './command-line.js';

const KEY = 'a key of sixteen characters'.replaceAll(' ', '-');
const QUESTION = 'Who keeps the spare keys?';
let place = '';
let adapter = '';
let server: CommandLine;
let client: OpenAI;

/** An adapter that changes what the embedded base says. */
async function writeAdapter(dir: string): Promise<void> {
  const { config } = await openModelDirectory(EMBEDDED_MODEL_DIRECTORY);
  const targetModules = ['down_proj'];
  const modules = loraModules(config, targetModules);
  const spec = { rank: 2, alpha: 4, seed: new Uint8Array(32).fill(5), targetModules, modules };
  const theta = initialAdapter(spec);
  for (const { factor, offset, length } of adapterLayout(spec).tensors) {
    for (let i = 0; factor === 'B' && i < length; i++) theta[offset + i] = ((i % 7) - 3) / 6;
  }
  await writePeftAdapter(dir, { spec, theta, baseModelName: 'tiny-base' });
}

before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-serve-'));
  adapter = join(place, 'adapter');
  await writeAdapter(adapter);
  await writeFile(join(place, 'key'), `${KEY}\n`);
  const args = ['--adapter', adapter, '--api-key-file', join(place, 'key'), '--log-level', 'debug'];
  server = new CommandLine([
    'serve',
    '--port',
    '0',
    '--context',
    '128',
    '--device',
    'cpu',
    ...args,
  ]);
  const baseURL = await until(
    'the address of the server',
    () => {
      assert.equal(server.exit, null, server.output());
      return /^(http:\S+)\nmodels/.exec(server.stdout)?.[1] ?? null;
    },
    () => server.output(),
  );
  client = new OpenAI({ baseURL, apiKey: KEY, maxRetries: 0 });
});
after(async () => {
  await server.dispose();
  await rm(place, { recursive: true, force: true });
});

const asked = {
  messages: [{ role: 'user' as const, content: QUESTION }],
  ...{ max_tokens: 8, temperature: 0 },
};

describe("OpenAI's own client", () => {
  it('finds base and adapter as two models, which do not say the same', async () => {
    const ids = (await client.models.list()).data.map(({ id }) => id);
    assert.deepEqual(ids, ['tiny-base', 'tiny-base+adapter']);
    const answers = [];
    for (const model of ids) {
      const { choices, usage } = await client.chat.completions.create({ ...asked, model });
      assert.ok((usage?.completion_tokens ?? 0) <= 8 && (usage?.prompt_tokens ?? 0) > 5);
      answers.push(choices[0]?.message.content ?? '');
    }
    assert.notEqual(answers[0], answers[1]);
  });

  it('gets streamed what it gets whole, and the same text for the same seed', async () => {
    const drawn = { ...asked, model: 'tiny-base', temperature: 1, top_p: 0.9, seed: 11 };
    const whole = await client.chat.completions.create(drawn);
    let streamed = '';
    const chunks = await client.chat.completions.create({ ...drawn, stream: true });
    for await (const chunk of chunks) streamed += chunk.choices[0]?.delta.content ?? '';
    assert.equal(streamed, whole.choices[0]?.message.content);
    assert.ok(streamed.length > 0);
  });

  it('has a text gone on with as murmurate generate does it', async () => {
    const prompt = 'ROMEO:\nWhat';
    const { choices } = await client.completions.create({
      ...{ model: 'tiny-base', prompt, max_tokens: 12, temperature: 0 },
    });
    const generated = await CommandLine.run(
      ...['generate', prompt, '--base', '--max-tokens', '12', '--device', 'cpu'],
    );
    assert.equal(`${choices[0]?.text ?? ''}\n`, generated.stdout);
  });

  it('understands what is refused', async () => {
    const model = 'tiny-base';
    const content = 'many words '.repeat(200);
    await assert.rejects(
      client.chat.completions.create({ model, messages: [{ role: 'user', content }] }),
      (error) =>
        error instanceof OpenAI.BadRequestError && error.code === 'context_length_exceeded',
    );
    await assert.rejects(
      client.chat.completions.create({ ...asked, model: 'gpt-4' }),
      (error) => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found',
    );
    await assert.rejects(
      new OpenAI({ baseURL: client.baseURL, apiKey: 'wrong', maxRetries: 0 }).models.list(),
      OpenAI.AuthenticationError,
    );
  });

  it('may go away in the middle: the next one is answered', async () => {
    const long = { ...asked, model: 'tiny-base', max_tokens: 100, stream: true as const };
    for await (const chunk of await client.chat.completions.create(long)) {
      if (chunk.choices[0]?.delta.content) break;
    }
    const next = await client.chat.completions.create({ ...asked, model: 'tiny-base' });
    assert.equal(next.choices.length, 1);
  });
});

describe('murmurate serve', () => {
  it('logs no word of what was asked, and ends at Ctrl-C with exit code 0', async () => {
    server.kill('SIGINT');
    assert.equal(await server.ended(), 0, server.output());
    assert.match(server.stderr, /answered/);
    assert.doesNotMatch(server.output(), new RegExp(`spare|ROMEO|many words|${KEY}`));
  });
});

describe('generate --compare', () => {
  it('writes what base and adapter write alone', async () => {
    const write = async (...args: string[]): Promise<string> => {
      const fixed = ['generate', QUESTION, '--max-tokens', '6', '--device', 'cpu'];
      const done = await CommandLine.run(...fixed, ...args);
      assert.equal(done.exit, 0, done.output());
      return done.stdout;
    };
    const both = await write('--adapter', adapter, '--compare');
    assert.equal(
      both,
      `base:\n${await write('--base')}adapter:\n${await write('--adapter', adapter)}`,
    );
  });
});

describe('serve --personal', () => {
  it('answers with the mixture, by what a request brings alone', async () => {
    const dir = join(place, 'peer');
    await writePersonalPeer(dir, await embeddedRun());
    const args = ['--dir', dir, '--personal', '--context', '128', '--device', 'cpu'];
    const own = new CommandLine(['serve', '--port', '0', ...args]);
    try {
      const baseURL = await until(
        'the address of the server',
        () => /^(http:\S+)\nmodels/.exec(own.stdout)?.[1] ?? null,
        () => own.output(),
      );
      const openai = new OpenAI({ baseURL, apiKey: 'none', maxRetries: 0 });
      const ids = (await openai.models.list()).data.map(({ id }) => id);
      assert.deepEqual(ids, ['tiny-base', 'tiny-base+personal']);
      const write = async (prompt: string, model: string): Promise<string> => {
        const limits = { max_tokens: 10, temperature: 0 };
        const { choices } = await openai.completions.create({ model, prompt, ...limits });
        return choices[0]?.text ?? '';
      };
      const [first, other] = ['ROMEO:\nWhat', 'Dear Watson, I'];
      const answer = await write(first, 'tiny-base+personal');
      const generated = await CommandLine.run(
        ...['generate', first, '--max-tokens', '10', ...args],
      );
      assert.equal(`${answer}\n`, generated.stdout);
      assert.notEqual(answer, await write(first, 'tiny-base'));
      await write(other, 'tiny-base+personal');
      await write(`${first} ${other}`, 'tiny-base+personal');
      assert.equal(await write(first, 'tiny-base+personal'), answer, 'nothing else is remembered');
    } finally {
      await own.dispose();
    }
  });
});
