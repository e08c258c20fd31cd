import assert from 'node:assert/strict';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { readPeftAdapter, writePeftAdapter } from '../../../node/model/peft.js';
import {
  readSafetensorsHeader,
  readTensorF32,
  writeSafetensors,
} from '../../../node/model/safetensors.js';
import { adapterLayout } from '../../../protocol/adapter.js';
import { referenceCase, Scratch, userError } from './fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const WEIGHTS = 'adapter_model.safetensors';
const PEFT_ADAPTER = join(referenceCase('llama-untied-bias'), 'adapter');

async function json(dir: string): Promise<Record<string, unknown>> {
  const text = await readFile(join(dir, 'adapter_config.json'), 'utf8');
  return JSON.parse(text) as Record<string, unknown>;
}

/** What PEFT wrote, written again by us. */
async function rewritten(from = PEFT_ADAPTER): Promise<string> {
  const dir = join(await scratch.directory(), 'new', 'adapter');
  const adapter = await readPeftAdapter(from);
  await writePeftAdapter(dir, { spec: adapter, theta: adapter.theta, baseModelName: 'base' });
  return dir;
}

describe('readPeftAdapter', () => {
  it('reads what PEFT wrote', async () => {
    const adapter = await readPeftAdapter(PEFT_ADAPTER);
    assert.deepEqual([adapter.rank, adapter.alpha], [3, 12]);
    assert.deepEqual(adapter.targetModules, ['q_proj', 'v_proj']);
    assert.deepEqual(adapter.modules.slice(0, 2), [
      { name: 'model.layers.0.self_attn.q_proj', inFeatures: 48, outFeatures: 48 },
      { name: 'model.layers.0.self_attn.v_proj', inFeatures: 48, outFeatures: 16 },
    ]);
    assert.equal(adapter.theta.length, 3 * 3 * (48 + 48 + 48 + 16));
  });

  it("puts theta in the spec's order, whatever the order of the file", async () => {
    const adapter = await readPeftAdapter(PEFT_ADAPTER);
    const spec = { ...adapter, modules: adapter.modules.toReversed() };
    const { theta } = await readPeftAdapter(PEFT_ADAPTER, spec);
    const { tensors } = await readSafetensorsHeader(
      join(PEFT_ADAPTER, 'adapter_model.safetensors'),
    );
    for (const { name, offset, length } of adapterLayout(spec).tensors) {
      const entry = tensors.find((tensor) => tensor.name === name);
      assert.deepEqual(theta.subarray(offset, offset + length), await readTensorF32(entry!));
    }
    assert.notDeepEqual(theta, adapter.theta);
  });

  it('refuses an adapter of another rank, alpha or model', async () => {
    const { rank, alpha, modules } = await readPeftAdapter(PEFT_ADAPTER);
    const refuses = (spec: object, pattern: RegExp): Promise<void> =>
      assert.rejects(
        readPeftAdapter(PEFT_ADAPTER, { rank, alpha, modules, ...spec }),
        userError(pattern),
      );
    await refuses({ rank: 4 }, /of rank 3 and alpha 12, but rank 4 and alpha 12 are needed/);
    await refuses({ alpha: 3 }, /but rank 3 and alpha 3 are needed/);
    const [first] = modules;
    await refuses(
      { modules: modules.slice(1) },
      /layers.0.self_attn.q_proj.* has no place in this/,
    );
    await refuses({ modules: [...modules, { ...first, name: 'x' }] }, /x.lora_A.weight is missing/);
    const wider = [{ ...first, inFeatures: 49 }, ...modules.slice(1)];
    await refuses({ modules: wider }, /lora_A.weight has shape \[3, 48\], but must be \[3, 49\]/);
  });

  it('refuses adapters whose arithmetic is not plain LoRA', async () => {
    const dir = await rewritten();
    const config = await json(dir);
    const refuses = async (change: object, pattern: RegExp): Promise<void> => {
      const text = JSON.stringify({ ...config, ...change });
      await writeFile(join(dir, 'adapter_config.json'), text);
      await assert.rejects(readPeftAdapter(dir), userError(pattern));
    };
    await refuses({ peft_type: 'IA3' }, /field "peft_type" is "IA3", but only LORA is supported/);
    await refuses({ use_dora: true }, /"use_dora" is true, but only false/);
    await refuses({ use_rslora: true }, /"use_rslora" is true, but only false/);
    await refuses({ bias: 'all' }, /"bias" is "all", but only "none"/);
    await refuses(
      { rank_pattern: { q_proj: 4 } },
      /"rank_pattern" is .*, but only \{\} is supported/,
    );
    await refuses({ modules_to_save: ['lm_head'] }, /"modules_to_save" is .*, but only null/);
    await refuses({ r: 0 }, /"r" is 0, but must be/);
    await refuses({ r: 100_000 }, /"r" is 100000, but must be 1 to 256/);
    await writeFile(join(dir, 'adapter_config.json'), JSON.stringify(config));
    const bias = { name: 'base_model.model.x.bias', shape: [3], data: new Float32Array(3) };
    await writeSafetensors(join(dir, 'adapter_model.safetensors'), [bias], {});
    await assert.rejects(
      readPeftAdapter(dir),
      userError(/x.bias \[3\] is not a factor of a linear/),
    );
  });

  it('refuses an adapter with NaN or infinity, and names the tensor', async () => {
    const { tensors } = await readSafetensorsHeader(join(PEFT_ADAPTER, WEIGHTS));
    for (const [value, word] of [
      [NaN, 'NaN'],
      [Infinity, 'infinity'],
      [-Infinity, 'infinity'],
    ] as const) {
      const dir = await rewritten();
      const changed = [];
      for (const [i, entry] of tensors.entries()) {
        const data = await readTensorF32(entry);
        if (i === 2) data[7] = value;
        changed.push({ name: entry.name, shape: entry.shape, data });
      }
      await writeSafetensors(join(dir, WEIGHTS), changed, { format: 'pt' });
      await assert.rejects(
        readPeftAdapter(dir),
        userError(new RegExp(`tensor ${tensors[2]?.name} holds ${word} \\(value 8 of `)),
      );
    }
  });

  it('refuses an alpha that would overflow', async () => {
    const dir = await rewritten();
    const config = { ...(await json(dir)), lora_alpha: 1e300 };
    await writeFile(join(dir, 'adapter_config.json'), JSON.stringify(config));
    await assert.rejects(readPeftAdapter(dir), userError(/lora_alpha.* must be at most 1000000/));
  });

  it('names the file that is missing', async () => {
    await assert.rejects(
      readPeftAdapter(await scratch.directory()),
      userError(/adapter_config.json \(the adapter's config\) does not exist/),
    );
  });
});

describe('writePeftAdapter', () => {
  it("writes PEFT's tensors bit for bit, and nothing else into the directory", async () => {
    const dir = await rewritten();
    const ours = join(dir, 'adapter_model.safetensors');
    const theirs = join(PEFT_ADAPTER, 'adapter_model.safetensors');
    const [a, b] = [await readSafetensorsHeader(ours), await readSafetensorsHeader(theirs)];
    assert.deepEqual(a.metadata, b.metadata);
    assert.equal(a.tensors.length, b.tensors.length);
    for (const tensor of b.tensors) {
      const mine = a.tensors.find(({ name }) => name === tensor.name);
      assert.deepEqual([mine?.dtype, mine?.shape], [tensor.dtype, tensor.shape]);
      assert.deepEqual(await readTensorF32(mine!), await readTensorF32(tensor));
    }
    assert.deepEqual((await readdir(dir)).sort(), [
      'adapter_config.json',
      'adapter_model.safetensors',
    ]);
  });

  it('writes a config in which every field says what PEFT says', async () => {
    for (const name of ['llama-untied-bias', 'qwen2', 'gemma3', 'phi3', 'gpt2'] as const) {
      const adapter = join(referenceCase(name), 'adapter');
      const [ours, theirs] = [await json(await rewritten(adapter)), await json(adapter)];
      assert.equal(ours['base_model_name_or_path'], 'base');
      for (const [field, value] of Object.entries(ours)) {
        if (field !== 'base_model_name_or_path') assert.deepEqual(value, theirs[field], field);
      }
      const needed = ['peft_type', 'task_type', 'r', 'lora_alpha', 'target_modules', 'bias'];
      for (const field of [...needed, 'fan_in_fan_out']) assert.ok(field in ours, field);
    }
  });

  it('writes no adapter that is not finite', async () => {
    const dir = join(await scratch.directory(), 'adapter');
    const adapter = await readPeftAdapter(PEFT_ADAPTER);
    const theta = adapter.theta.slice();
    theta[9] = NaN;
    await assert.rejects(
      writePeftAdapter(dir, { spec: adapter, theta, baseModelName: 'base' }),
      userError(/holds NaN \(value 10 of /),
    );
    await assert.rejects(readdir(dir), /ENOENT/);
  });

  it('refuses a theta that does not fit, and a place that cannot be written', async () => {
    const { theta, ...spec } = await readPeftAdapter(PEFT_ADAPTER);
    const dir = await scratch.directory();
    await assert.rejects(
      writePeftAdapter(dir, { spec, theta: theta.subarray(1), baseModelName: 'base' }),
      RangeError,
    );
    await writeFile(join(dir, 'file'), '');
    await assert.rejects(
      writePeftAdapter(join(dir, 'file', 'adapter'), { spec, theta, baseModelName: 'base' }),
      userError(/cannot be written: a file is in the way/),
    );
  });
});
