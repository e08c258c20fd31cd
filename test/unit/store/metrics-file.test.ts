import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { METRICS_BYTES_MAX, MetricsFile } from '../../../node/store/metrics-file.js';

let directory = '';
let path = '';

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'murmurate-metrics-'));
  path = join(directory, 'metrics.jsonl');
});
afterEach(() => rm(directory, { recursive: true, force: true }));

describe('MetricsFile', () => {
  it('gives back after a restart what was appended, in order', async () => {
    const first = await MetricsFile.open(path);
    assert.deepEqual(first.values, []);
    for (let epoch = 0; epoch < 3; epoch++) first.file.append({ epoch });
    await first.file.flush();
    const second = await MetricsFile.open(path);
    second.file.append({ epoch: 3 });
    await second.file.flush();
    const { values } = await MetricsFile.open(path);
    assert.deepEqual(values, [{ epoch: 0 }, { epoch: 1 }, { epoch: 2 }, { epoch: 3 }]);
  });

  it('cuts a torn last line off and leaves lines out that a bad disk changed', async () => {
    await writeFile(path, '{"epoch":0}\n{"epo\u0000\n{"epoch":2}\n{"epoch":');
    const { file, values } = await MetricsFile.open(path);
    assert.deepEqual(values, [{ epoch: 0 }, { epoch: 2 }]);
    file.append({ epoch: 3 });
    await file.flush();
    assert.match(await readFile(path, 'utf8'), /\{"epoch":2\}\n\{"epoch":3\}\n$/);
  });

  it('never holds more than two files of the bound', async () => {
    await writeFile(path, `${'x'.repeat(METRICS_BYTES_MAX - 20)}\n`);
    const { file } = await MetricsFile.open(path);
    file.append({ epoch: 1 });
    file.append({ epoch: 2 });
    await file.flush();
    assert.equal(await readFile(path, 'utf8'), '{"epoch":2}\n');
    assert.ok((await stat(join(directory, 'metrics.1.jsonl'))).size <= METRICS_BYTES_MAX);
    assert.deepEqual((await MetricsFile.open(path)).values, [{ epoch: 1 }, { epoch: 2 }]);
  });

  it('begins anew when somebody takes the file away', async () => {
    const { file } = await MetricsFile.open(path);
    file.append({ epoch: 0 });
    await file.flush();
    await rm(path);
    file.append({ epoch: 1 });
    await file.flush();
    assert.equal(file.problem, null);
    assert.equal(await readFile(path, 'utf8'), '{"epoch":1}\n');
  });

  it('says why it cannot write, and goes on when it can again', async () => {
    const { file } = await MetricsFile.open(path);
    await rm(directory, { recursive: true });
    file.append({ epoch: 0 });
    await file.flush();
    assert.match(file.problem ?? '', /cannot append to .*metrics\.jsonl.*training goes on$/);
    directory = await mkdtemp(directory);
    const again = await MetricsFile.open(join(directory, 'metrics.jsonl'));
    await appendFile(join(directory, 'metrics.jsonl'), '');
    again.file.append({ epoch: 1 });
    await again.file.flush();
    assert.equal(again.file.problem, null);
  });
});
