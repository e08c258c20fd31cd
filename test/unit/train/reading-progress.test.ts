import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import type { ReadExample } from '../../../node/data/dataset.js';
import { READING_MS, tellReading } from '../../../node/train/reading-progress.js';
import { SilenceTimer } from '../../../node/train/silence-timer.js';

const example: ReadExample = {
  ...{ file: 'f', isHeldOut: false, tokens: [1, 2, 3], trained: [1, 1, 1], starts: [0] },
  record: { kind: 'text', text: 'a', endsDocument: true, splitKey: 'a', line: 1 },
};

describe('progress of reading', () => {
  it('is told every ten seconds, with all that was read', () => {
    let nowMs = 5;
    const told: object[] = [];
    const onExample = tellReading(
      (progress) => told.push(progress),
      () => nowMs,
    );
    onExample(example);
    nowMs += READING_MS;
    onExample(example);
    onExample(example);
    nowMs += READING_MS;
    onExample(example);
    assert.deepEqual(told, [
      { records: 2, tokens: 6 },
      { records: 4, tokens: 12 },
    ]);
  });

  it('puts off the end of waiting, which silence brings', () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      const silence = new SilenceTimer(1000);
      mock.timers.tick(900);
      silence.heard();
      mock.timers.tick(900);
      assert.equal(silence.signal.aborted, false);
      mock.timers.tick(200);
      assert.equal((silence.signal.reason as Error).name, 'TimeoutError');
      const stopped = new SilenceTimer(1000);
      stopped.stop();
      mock.timers.tick(2000);
      assert.equal(stopped.signal.aborted, false);
    } finally {
      mock.timers.reset();
    }
  });
});
