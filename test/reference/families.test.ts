/** Every family on the executors that any machine has. */
import assert from 'node:assert/strict';
import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { Executor } from '../../node/engine/executor.js';
import { ortExecutor } from '../../node/engine/ort.js';
import { openTfjsExecutor } from '../../node/engine/tfjs/open.js';
import { referenceCase, Scratch, type ReferenceCaseName } from '../unit/model/fixtures.js';
import { referenceAgreement, trainStepAgreement } from './agreement.js';
import { BOUNDS, compareWithReference } from './compare.js';

const openOrt = async (): Promise<Executor> => ortExecutor({ threads: 1 });
const openWasm = (): Promise<Executor> => openTfjsExecutor({ backend: 'wasm' });

referenceAgreement('ONNX Runtime', openOrt);
referenceAgreement('TensorFlow.js, wasm', openWasm);
trainStepAgreement('TensorFlow.js, wasm', openWasm);

describe('the comparison', () => {
  const scratch = new Scratch();
  after(() => scratch.remove());

  const changes: [name: ReferenceCaseName, from: RegExp, to: string][] = [
    ['llama3-scaling', /"high_freq_factor": 4.0/, '"high_freq_factor": 3.0'],
    ['yarn', /"beta_fast": 2.0/, '"beta_fast": 4.0'],
    ['yarn-mscale', /"beta_fast": 2.0/, '"beta_fast": 3.0'],
    ['yarn', /"factor": 4.0/, '"factor": 5.0'],
    ['yarn-mscale', /"truncate": false/, '"truncate": true'],
    ['yarn-mscale', /"mscale": 1.4/, '"mscale": 1.2'],
    ['dynamic-scaling', /"rope_type": "dynamic"/, '"rope_type": "linear"'],
    ['mistral-shards', /"sliding_window": 7/, '"sliding_window": 8'],
    ['qwen3', /"rope_theta": 10000.0/, '"rope_theta": 9000.0'],
    ['qwen3-window', /"sliding_window": 5/, '"sliding_window": 6'],
    ['gemma2', /"sliding_window": 5/, '"sliding_window": 4'],
    ['gemma2', /"attn_logit_softcapping": 0.4/, '"attn_logit_softcapping": 0.5'],
    ['gemma2', /"final_logit_softcapping": 0.8/, '"final_logit_softcapping": null'],
    ['smollm3', /"no_rope_layers": \[\s*1,\s*0/, '"no_rope_layers": [1, 1'],
    ['smollm3-window', /"sliding_window": 6/, '"sliding_window": 7'],
    ['olmo2', /"rms_norm_eps": 1e-05/, '"rms_norm_eps": 0.01'],
    ['granite', /"embedding_multiplier": 3.0/, '"embedding_multiplier": 2.0'],
    ['granite', /"residual_multiplier": 0.4/, '"residual_multiplier": 0.5'],
    ['granite', /"attention_multiplier": 0.2/, '"attention_multiplier": 0.3'],
    ['granite', /"logits_scaling": 2.5/, '"logits_scaling": 2.0'],
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
      const differences = await compareWithReference(dir, await openOrt());
      for (const measure of [
        'logits, absolute',
        'each adapter gradient, relative in norm',
      ] as const) {
        assert.ok(differences[measure] > BOUNDS[measure], `${measure}: ${differences[measure]}`);
      }
    });
  }
});
