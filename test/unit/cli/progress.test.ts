import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { createProgress } from '../../../node/cli/progress.js';
import type { StatusReport } from '../../../node/status.js';
import { sampleStatus } from '../status-sample.js';

function lines(reports: readonly StatusReport[], terminal = false): string {
  const stderr = new PassThrough();
  const progress = createProgress({ stderr, terminal });
  for (const report of reports) progress.update(report);
  progress.stop();
  return String(stderr.read() ?? '');
}

function at(epoch: number, changed: Partial<StatusReport> = {}): StatusReport {
  const sample = sampleStatus();
  return { ...sample, run: { ...sample.run, epoch }, ...changed };
}

describe('progress without a terminal', () => {
  it('prints a line an epoch and nothing in between', () => {
    const facts = 'step 31, loss 3.250, held-out 3.750 (base 4.250), 9 updates, 1 peer';
    assert.equal(
      lines([at(3), at(3), at(4), at(4)]),
      `epoch 3/20 training: ${facts}\nepoch 4/20 training: ${facts}\n`,
    );
  });

  it('says each sentence that wants attention once, though its seconds count down', () => {
    const waiting = (seconds: number): StatusReport =>
      at(-1, { attention: [`The run starts in ${seconds} s.`] });
    assert.equal(
      lines([waiting(5), waiting(4.5), waiting(4)]),
      'attention: The run starts in 5 s.\n',
    );
  });

  it('says a sentence again when it comes back, and others only once', () => {
    const [a, b] = ['The disk is full.', 'No peer is connected.'];
    const said = lines([
      at(-1, { attention: [a, b] }),
      at(-1, { attention: [b] }),
      at(-1, { attention: [a, b] }),
    ]);
    assert.equal(said, `attention: ${a}\nattention: ${b}\nattention: ${a}\n`);
  });

  it('says once that the run is over', () => {
    const over = at(20);
    const finished: StatusReport = { ...over, run: { ...over.run, state: 'finished' } };
    assert.equal(lines([finished, finished]).match(/epoch 20\/20 finished/g)?.length, 1);
  });
});

describe('progress on a terminal', () => {
  it('shows the epoch, its state and what wants attention, and lets log lines through', () => {
    const stderr = Object.assign(new PassThrough(), { isTTY: true, columns: 200, rows: 20 });
    const progress = createProgress({ stderr, terminal: true });
    progress.log.write('before\n');
    progress.update(at(3, { attention: ['The disk is full.'] }));
    progress.log.write('after\n');
    progress.stop();
    const shown = String(stderr.read());
    assert.match(shown, /^before\n/);
    assert.match(shown, /attention: The disk is full\./);
    assert.match(shown, /after/);
    assert.match(shown, /epoch 3\/20 \[.*\] training: step 31, loss 3\.250/);
  });
});
