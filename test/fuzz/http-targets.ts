/** The local servers: any bytes at all on a socket of this machine, and any request of the OpenAI API. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { ApiError } from '../../node/http/openai/error.js';
import { readChatRequest, readCompletionRequest } from '../../node/http/openai/request.js';
import { startHttpServer } from '../../node/http/server.js';
import { sampleStatus } from '../unit/status-sample.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

/** What the server may answer; 408 and 431 are those of node itself, 503 is for a page that is not built. */
const ANSWERS = /^HTTP\/1\.1 (100|200|400|403|404|405|408|413|417|431|503) /;

/** Stands for the port in a seed. */
const PORT = '@';

async function exchange(port: number, bytes: Uint8Array): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.end(bytes);
  try {
    return (await buffer(socket)).toString('latin1');
  } catch (error) {
    // A server that has heard enough may reset the connection.
    if (error instanceof Error && 'code' in error) return '';
    throw error;
  } finally {
    socket.destroy();
  }
}

const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${PORT}\r\n`;

const http: FuzzTarget = {
  seeds: [
    `${get('/status')}\r\n`,
    `${get('/healthz')}Connection: close\r\n\r\n`,
    `${get('/events')}Accept: text/event-stream\r\nLast-Event-ID: 1\r\n\r\n`,
    `${get('/metrics')}Accept: application/openmetrics-text\r\n\r\n`,
    `${get('/page.js')}Range: bytes=0-9\r\nIf-None-Match: *\r\n\r\n`,
    `HEAD /events HTTP/1.1\r\nHost: 127.0.0.1:${PORT}\r\n\r\n`,
    `${get('/')}Content-Length: 2\r\n\r\nhi`,
    `HEAD /%2e%2e/ HTTP/1.0\r\nHost: localhost:${PORT}\r\n\r\n`,
    `POST /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n1\r\na\r\n0\r\n\r\n`,
    `OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1:${PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n`,
  ].map((text) => Buffer.from(text)),
  refusals: [],
  run: async (bytes) => {
    const server = await startHttpServer({
      port: 0,
      peer: { status: sampleStatus, history: () => [], registries: () => [] },
    });
    const { port } = server;
    const text = Buffer.from(bytes).toString('latin1').replaceAll(PORT, String(port));
    const answer = await exchange(port, Buffer.from(text, 'latin1'));
    await server.stop();
    assert.ok(answer === '' || ANSWERS.test(answer), answer.slice(0, 100));
    const isFor = text.includes(`127.0.0.1:${port}`) || text.toLowerCase().includes('localhost');
    if (answer.includes('12D3KooWSelf')) assert.ok(isFor, 'only for whoever names this server');
  },
};

const openAi: FuzzTarget = {
  seeds: [
    '{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"stop":["a"],"n":1,"seed":-1}',
    '{"model":"m","messages":[{"role":"developer","content":[{"type":"text","text":"hi"}]}],"max_completion_tokens":9,"stream_options":{"include_usage":true},"top_p":0}',
    '{"model":"m","prompt":["hi"],"max_tokens":3,"temperature":0.5,"stop":"x","best_of":1,"logit_bias":{}}',
    '{"model":"m","messages":[{"role":"system","content":"a"},{"role":"assistant","content":"b"}],"tools":[],"logprobs":false,"response_format":{"type":"text"}}',
  ].map((text) => Buffer.from(text)),
  refusals: [ApiError],
  run: (bytes) => {
    const text = new TextDecoder().decode(bytes);
    const read = text.includes('messages') ? readChatRequest : readCompletionRequest;
    const { write } = read(text);
    assert.ok(write.temperature >= 0 && write.temperature <= 2);
    assert.ok(write.topP > 0 && write.topP <= 1);
    assert.ok(write.tokensMax === null || Number.isSafeInteger(write.tokensMax - 1));
    assert.ok(write.stops.length <= 4 && write.stops.every((stop) => stop !== ''));
    const { prompt } = write;
    if ('messages' in prompt)
      assert.ok(prompt.messages.every(({ content }) => typeof content === 'string'));
    else assert.equal(typeof prompt.text, 'string');
  },
};

export const httpTargets: FuzzTargets = { http, 'openai-request': openAi };
