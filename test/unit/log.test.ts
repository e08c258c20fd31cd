import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import { createLogger, type LoggerInit } from '../../node/log.js';

async function lines(
  init: Partial<LoggerInit>,
  use: (logger: ReturnType<typeof createLogger>) => void,
): Promise<string[]> {
  const out = new PassThrough();
  use(createLogger({ level: 'info', format: 'text', ...init, out }));
  // Writables hand chunks on in the next tick at the latest.
  await new Promise(setImmediate);
  out.end();
  return (await text(out)).split('\n').filter((line) => line !== '');
}

describe('createLogger()', () => {
  it('prints a sentence with its fields as text', async () => {
    const [line] = await lines({}, (log) =>
      log.warn({ epoch: 3, peer: 'abc' }, 'no peer answered'),
    );
    assert.match(line ?? '', /^\d\d:\d\d:\d\d warn {2}no peer answered \(epoch 3, peer abc\)$/);
  });

  it('prints one JSON object a line with --log-format json', async () => {
    const [line] = await lines({ format: 'json' }, (log) => log.info({ epoch: 3 }, 'folded'));
    const entry = JSON.parse(line ?? '') as Record<string, unknown>;
    assert.equal(entry['level'], 'info');
    assert.equal(entry['epoch'], 3);
    assert.equal(entry['msg'], 'folded');
    assert.ok(typeof entry['time'] === 'string');
  });

  it('drops what lies below its level', async () => {
    const found = await lines({ level: 'warn' }, (log) => {
      log.info({}, 'quiet');
      log.error({}, 'loud');
    });
    assert.equal(found.length, 1);
    assert.match(found[0] ?? '', /loud/);
  });

  it('never prints fields that hold keys, prompts or text', async () => {
    for (const format of ['text', 'json'] as const) {
      const [line] = await lines({ format }, (log) =>
        log.info({ privateKey: 'k1', sample: { text: 't1', prompt: 'p1' }, n: 7 }, 'x'),
      );
      assert.doesNotMatch(line ?? '', /k1|t1|p1/);
      assert.match(line ?? '', /7/);
    }
  });

  it('lets no field break a line or steer the terminal', async () => {
    const found = await lines({}, (log) => log.warn({ name: 'a\n\u001b[2Jb\u009b0m' }, 'seen'));
    assert.equal(found.length, 1);
    assert.match(found[0] ?? '', /seen \(name a\\n\\u001b\[2Jb\\u009b0m\)$/);
  });

  it('prints the message of an error', async () => {
    const [line] = await lines({}, (log) =>
      log.error({ err: new RangeError('too long') }, 'failed'),
    );
    assert.match(line ?? '', /failed \(error too long\)$/);
  });
});
