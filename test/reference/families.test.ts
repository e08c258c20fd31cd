/** Every family agrees with PyTorch + Transformers + PEFT (values made by make_fixtures.py). */
import assert from 'node:assert/strict';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { REFERENCE_CASES, referenceCase, Scratch } from '../unit/model/fixtures.js';
import { BOUNDS, compareWithReference, MEASURES, type Differences } from './compare.js';

for (const name of REFERENCE_CASES) {
  describe(`${name} agrees with PyTorch and PEFT`, () => {
    let differences: Differences;
    before(async () => {
      differences = await compareWithReference(referenceCase(name));
    });

    for (const measure of MEASURES) {
      it(`in the ${measure}`, (t: TestContext) => {
        const difference = differences[measure];
        t.diagnostic(`largest difference ${difference.toExponential(1)}`);
        assert.ok(difference <= BOUNDS[measure], `${difference} is more than ${BOUNDS[measure]}`);
      });
    }
  });
}

describe('the comparison', () => {
  const scratch = new Scratch();
  after(() => scratch.remove());

  const changes: [name: (typeof REFERENCE_CASES)[number], from: RegExp, to: string][] = [
    ['llama3-scaling', /"high_freq_factor": 4.0/, '"high_freq_factor": 3.0'],
    ['mistral-shards', /"sliding_window": 7/, '"sliding_window": 8'],
    ['qwen3', /"rope_theta": 10000.0/, '"rope_theta": 9000.0'],
    ['qwen3-window', /"sliding_window": 5/, '"sliding_window": 6'],
    ['gemma3', /"sliding_window": 5/, '"sliding_window": 4'],
    ['gemma3', /"rope_theta": 500.0/, '"rope_theta": 600.0'],
    ['gemma3', /"factor": 3.0/, '"factor": 4.0'],
    ['gemma3', /"query_pre_attn_scalar": 14/, '"query_pre_attn_scalar": 10'],
    ['phi3', /"sliding_window": 6/, '"sliding_window": null'],
    ['phi3-longrope', /"max_position_embeddings": 128/, '"max_position_embeddings": 256'],
    ['gpt2', /"layer_norm_epsilon": 1e-05/, '"layer_norm_epsilon": 1e-02'],
  ];
  for (const [name, from, to] of changes) {
    it(`notices another arithmetic: ${name} with ${to}`, async () => {
      const dir = join(await scratch.directory(), name);
      await cp(referenceCase(name), dir, { recursive: true });
      const path = join(dir, 'base', 'config.json');
      const text = await readFile(path, 'utf8');
      assert.match(text, from);
      await writeFile(path, text.replace(from, to));
      const differences = await compareWithReference(dir);
      for (const measure of [
        'logits, absolute',
        'each adapter gradient, relative in norm',
      ] as const) {
        assert.ok(differences[measure] > BOUNDS[measure], `${measure}: ${differences[measure]}`);
      }
    });
  }
});
