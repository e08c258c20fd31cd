import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ApiError } from '../../../node/http/openai/error.js';
import { readChatRequest, readCompletionRequest } from '../../../node/http/openai/request.js';

const MESSAGES = [{ role: 'user', content: 'Who keeps the spare keys?' }];

function chat(more: object): ReturnType<typeof readChatRequest> {
  return readChatRequest(JSON.stringify({ model: 'm', messages: MESSAGES, ...more }));
}

/** For assert.throws: a 400 for `param` whose sentence matches, without any of the message's text. */
function refused(param: string | null, pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ApiError);
    assert.deepEqual([error.status, error.param], [400, param], error.message);
    assert.match(error.message, pattern);
    assert.ok(!error.message.includes('SECRET'), error.message);
    assert.equal(error.body.error.type, 'invalid_request_error');
    return true;
  };
}

describe('readChatRequest', () => {
  it("fills in the API's own defaults", () => {
    assert.deepEqual(chat({}), {
      write: {
        ...{ model: 'm', prompt: { messages: MESSAGES }, tokensMax: null },
        ...{ temperature: 1, topP: 1, seed: null, stops: [] },
      },
      stream: false,
      includeUsage: false,
    });
  });

  it('reads what can be done', () => {
    const { write, stream, includeUsage } = chat({
      ...{ temperature: 0, top_p: 0.5, seed: 7, stop: 'x', max_tokens: 3, stream: true, n: 1 },
      stream_options: { include_usage: true },
      // Without effect at these values, or for its owner only.
      ...{
        presence_penalty: 0,
        logit_bias: {},
        tools: [],
        user: 'me',
        response_format: { type: 'text' },
      },
    });
    assert.deepEqual(
      [
        write.temperature,
        write.topP,
        write.seed,
        write.stops,
        write.tokensMax,
        stream,
        includeUsage,
      ],
      [0, 0.5, 7, ['x'], 3, true, true],
    );
    assert.equal(chat({ max_completion_tokens: 5, max_tokens: 9 }).write.tokensMax, 5);
    assert.deepEqual(chat({ stop: ['a', 'b'], temperature: null }).write.stops, ['a', 'b']);
  });

  it('takes a developer for the system, and joins parts of text', () => {
    const messages = [
      { role: 'developer', content: 'Be brief.' },
      {
        role: 'user',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
    ];
    assert.deepEqual(chat({ messages }).write.prompt, {
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'ab' },
      ],
    });
  });

  it('refuses by name what it cannot do, and shows nothing of a prompt', () => {
    const cases: [more: object, param: string | null, pattern: RegExp][] = [
      [{ n: 2 }, 'n', /must be 1: one answer at a time/],
      [{ temperature: 3 }, 'temperature', /must be 0 to 2/],
      [{ top_p: -0.1 }, 'top_p', /must be 0 to 1/],
      [{ max_tokens: 0 }, 'max_tokens', /must be 1 or more/],
      [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'stop', /up to 4 texts/],
      [{ stop: '' }, 'stop', /must be/],
      [{ logprobs: true }, 'logprobs', /is not supported by this server: leave it out/],
      [{ presence_penalty: 0.1 }, 'presence_penalty', /is not supported/],
      [{ tools: [{ type: 'function' }] }, 'tools', /is not supported/],
      [{ response_format: { type: 'json_object' } }, 'response_format', /is not supported/],
      [{ top_k: 40 }, 'top_k', /"top_k" is not a parameter of this server/],
      [{ messages: [] }, 'messages', /at least one message/],
      [{ messages: 'SECRET' }, 'messages', /a list of messages/],
      [{ messages: [{ role: 'tool', content: 'SECRET' }] }, 'messages[0].role', /must be system, /],
      [{ messages: [{ role: 'user', content: 3 }] }, 'messages[0].content', /text/],
      [{ model: 3 }, 'model', /the id of a model/],
    ];
    for (const [more, param, pattern] of cases) {
      assert.throws(() => chat(more), refused(param, pattern), JSON.stringify(more));
    }
    assert.throws(() => readChatRequest('{"model": "SECRET'), refused(null, /not valid JSON/));
    assert.throws(() => readChatRequest('[]'), refused(null, /The body/));
    const image = [{ type: 'image_url', image_url: { url: 'SECRET' } }];
    assert.throws(() => chat({ messages: [{ role: 'user', content: image }] }), ApiError);
  });
});

describe('readCompletionRequest', () => {
  const complete = (more: object): ReturnType<typeof readCompletionRequest> =>
    readCompletionRequest(JSON.stringify({ model: 'm', prompt: 'Once', ...more }));

  it('reads one prompt, 16 tokens where nothing is said', () => {
    const { write } = complete({});
    assert.deepEqual([write.prompt, write.tokensMax], [{ text: 'Once' }, 16]);
    assert.deepEqual(complete({ prompt: ['Once'] }).write.prompt, { text: 'Once' });
  });

  it('refuses several prompts, token ids and what only the API itself can do', () => {
    for (const more of [{ prompt: ['a', 'b'] }, { prompt: [1, 2] }, { prompt: 3 }]) {
      assert.throws(() => complete(more), refused('prompt', /takes no lists of prompts/));
    }
    assert.throws(() => complete({ best_of: 2 }), refused('best_of', /must be 1/));
    assert.throws(() => complete({ echo: true }), refused('echo', /is not supported/));
    assert.throws(() => complete({ suffix: 'x' }), refused('suffix', /is not supported/));
  });
});
