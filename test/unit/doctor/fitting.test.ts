import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { doctorOptions, planFor } from '../../../node/cli/doctor.js';
import { defaultsOf } from '../../../node/config.js';
import { checkFit, WANTED, wellKnown } from '../../../node/doctor/fitting.js';
import {
  configOf,
  MODEL_SHAPES,
  namedShape,
  tensorsOf,
} from '../../../node/doctor/model-shapes.js';
import { WEIGHT_FORMATS } from '../../../node/model/weight-format.js';

const GB = 1e9;

describe('the shapes of well-known models', () => {
  it('have as many parameters as the models', () => {
    for (const [name, parameters] of [
      ['SmolLM2-135M', 134_515_008],
      ['Qwen2.5-0.5B', 494_032_768],
      ['Llama-3.2-1B', 1_235_814_400],
      ['Phi-3.5-mini', 3_821_079_552],
      ['Mistral-7B', 7_248_023_552],
      ['Qwen2.5-7B', 7_615_616_512],
      ['Llama-3.1-8B', 8_030_261_248],
      ['Qwen3-8B', 8_190_735_360],
    ] as const) {
      const shape = namedShape(name);
      const tensors = tensorsOf(configOf(shape, name), shape);
      const count = tensors.reduce((sum, one) => sum + one.shape.reduce((a, b) => a * b), 0);
      assert.equal(count, parameters, name);
    }
  });

  it('are configs that the families read', () => {
    for (const [name, shape] of MODEL_SHAPES)
      assert.equal(configOf(shape, name).vocabSize, shape.vocabulary);
    for (const name of WANTED) assert.ok(MODEL_SHAPES.has(name), name);
  });
});

describe('checkFit', () => {
  const of = async (name: string, free: number): Promise<[string, string]> => {
    const planned = await planFor(defaultsOf(doctorOptions));
    const machine = { processBytes: 0.2 * GB, free: free * GB, refuse: true };
    const { level, text } = await checkFit(wellKnown(name, planned), machine);
    return [level, text];
  };

  it('says with which weights a model fits, at how many tokens, and how much of what is free that takes', async () => {
    const [level, text] = await of('Qwen2.5-7B', 22);
    assert.equal(level, 'ok');
    assert.match(
      text,
      /^Qwen2\.5-7B: fits with --weights bf16 at 2,048 tokens \(\d+\.\d of 22\.2 GB\)$/,
    );
  });

  it('takes more exact weights where more is free, and shorter sequences where less is', async () => {
    const seen: [number, number][] = [];
    for (const free of [20, 9, 5, 2.2]) {
      const [, text] = await of('Llama-3.2-1B', free);
      const [, format = '', tokens = ''] = /--weights (\w+) at ([\d,]+) tokens/.exec(text) ?? [];
      const place = WEIGHT_FORMATS.findIndex((one) => one === format);
      seen.push([place, Number(tokens.replace(',', ''))]);
    }
    assert.deepEqual(seen[0], [0, 2048]);
    for (const [i, [format, tokens]] of seen.entries()) {
      const [before, longer] = seen[i - 1] ?? [0, Infinity];
      assert.ok(format >= before && tokens <= longer, JSON.stringify(seen));
    }
    assert.ok(seen.at(-1)![1] < 2048, JSON.stringify(seen));
  });

  it('warns of weights that are read from the disk again at each step, and of what fits in no way', async () => {
    const slow = await of('Qwen2.5-7B', 4);
    assert.equal(slow[0], 'warn');
    assert.match(
      slow[1],
      /^Qwen2\.5-7B: slow with --weights int4 at [\d,]+ tokens \(.*\): each step reads/,
    );
    const none = await of('Qwen2.5-7B', 0.5);
    assert.deepEqual(none, [
      'warn',
      'Qwen2.5-7B: does not fit, with any --weights and the shortest sequences',
    ]);
  });
});
