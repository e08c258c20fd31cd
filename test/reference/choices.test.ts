/** Multiple choice against lm-evaluation-harness: see make_choices_reference.py. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { readChoices } from '../../node/data/choices.js';
import { openTokenizer } from '../../node/data/tokenizer.js';
import { ortExecutor } from '../../node/engine/ort.js';
import { openLanguageModel } from '../../node/model/language-model.js';
import { loraModules } from '../../node/model/lora.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { choiceRequests, logLikelihoods, scoreChoices } from '../../node/train/choices.js';
import { adapterLayout } from '../../protocol/adapter.js';
import { ROOT, TINY_BASE } from '../unit/model/fixtures.js';

const DIR = join(ROOT, 'test', 'reference', 'choices');
/** Of a log-likelihood, in nats: the reference has five digits. */
const BOUND = 1e-3;

interface Reference {
  acc: number;
  accStderr: number;
  accNorm: number;
  accNormStderr: number;
  logLikelihoods: number[][];
}

describe('multiple choice', () => {
  it('of 200 items has the log-likelihoods, acc, acc_norm and errors of the harness', async () => {
    const file = join(DIR, 'items.jsonl');
    const reference = JSON.parse(await readFile(join(DIR, 'reference.json'), 'utf8')) as Reference;
    const { config, weights } = await openModelDirectory(TINY_BASE);
    const tokenizer = await openTokenizer(TINY_BASE, config);
    const { bosTokenId, maxPositions } = config;
    const items = await readChoices(file);
    assert.equal(items.length, 200);
    const requests = choiceRequests(items, file, { tokenizer, bosTokenId, maxPositions });
    const longest = Math.max(...requests.map(({ tokens }) => tokens.length - 1));
    assert.equal(longest, maxPositions, 'some contexts are cut');
    const adapter = { rank: 1, alpha: 1, modules: loraModules(config, ['q_proj']).slice(0, 1) };
    const executor = ortExecutor({ threads: 1 });
    const theta = new Float32Array(adapterLayout(adapter).size);
    const [found = []] = await logLikelihoods({
      ...{ requests, thetas: [theta], maxPositions, signal: new AbortController().signal },
      open: (sequenceLength) =>
        openLanguageModel({ config, weights, adapter, executor, batchSize: 1, sequenceLength }),
      onProgress: () => undefined,
    });
    const wanted = reference.logLikelihoods.flat();
    assert.equal(found.length, wanted.length);
    const worst = found.reduce((most, one, i) => Math.max(most, Math.abs(one - wanted[i]!)), 0);
    assert.ok(worst < BOUND, `largest difference ${worst}`);
    const { acc, accNorm } = scoreChoices(items, requests, found);
    assert.deepEqual([acc.share, accNorm.share], [reference.acc, reference.accNorm]);
    const close = (a: number | null, b: number): void =>
      assert.ok(a !== null && Math.abs(a - b) < 1e-12, `${a} for ${b}`);
    close(acc.stderr, reference.accStderr);
    close(accNorm.stderr, reference.accNormStderr);
    assert.ok(acc.low < acc.share && acc.share < acc.high);
  });
});
