/**
 * Writes a drawn adapter on a real model in every format that `murmurate export` has, to be loaded by other programs:
 * check_exports.py compares them with PEFT and llama.cpp's own converter, and with BASE.gguf and LLAMA_DIR this program
 * compares what llama.cpp writes with what our engine does.
 *
 *   npm run reference:exports -- MODEL_DIR OUT_DIR [BASE.gguf LLAMA_DIR]
 *
 * BASE.gguf: the same model in F32, as llama.cpp's convert_hf_to_gguf.py --outtype f32 writes it. LLAMA_DIR: a folder
 * with node-llama-cpp installed (npm install --ignore-scripts node-llama-cpp), whose package holds a compiled llama.cpp.
 * Exit code 0: all texts are equal, token for token up to a tie, and the adapter changes them.
 */
import { mkdir, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { openTokenizer } from '../../node/data/tokenizer.js';
import { ortExecutor } from '../../node/engine/ort.js';
import { writeGgufAdapter } from '../../node/model/gguf-adapter.js';
import { loraModules } from '../../node/model/lora.js';
import { writeMergedModel } from '../../node/model/merge.js';
import { openModelDirectory } from '../../node/model/model-directory.js';
import { openNextTokenGraph, type NextTokenModel } from '../../node/model/next-token-model.js';
import { writePeftAdapter } from '../../node/model/peft.js';
import { promptTokens } from '../../node/train/generate.js';
import { likeliest } from '../../node/train/sampling.js';
import { adapterLayout, initialAdapter } from '../../protocol/adapter.js';
import { Prng } from '../../protocol/prng.js';

const PROMPTS = [
  'The capital of France is',
  'Once upon a time there was a lathe that',
  'Question: Who keeps the spare keys?\nAnswer:',
  'def fibonacci(n):',
];
const TOKENS = 24;
/** Two tokens whose logits are this near are as likely: rounding decides, and what follows is another text. */
const TIE = 1e-3;
/** Largest value of lora_B: with it the adapter changes the text, and the text stays text. */
const B_MAX = 0.02;

/** What of node-llama-cpp 3 is used. */
interface Llama {
  loadModel(options: { modelPath: string }): Promise<{
    createContext(options: object): Promise<{
      getSequence(): {
        evaluate(tokens: number[], options: { temperature: number }): AsyncIterable<number>;
      };
      dispose(): Promise<void>;
    }>;
    dispose(): Promise<void>;
  }>;
}

const say = (line: string): unknown => process.stdout.write(`${line}\n`);

const [modelDir, out, baseGguf, llamaDir] = process.argv.slice(2);
if (modelDir === undefined || out === undefined) {
  process.stderr.write('give MODEL_DIR OUT_DIR, and BASE.gguf LLAMA_DIR to run llama.cpp\n');
  process.exit(2);
}
const { dir, config, weights, name } = await openModelDirectory(modelDir);
const modules = loraModules(config, ['all-linear']);
const targetModules = [...new Set(modules.map((layer) => layer.name.split('.').at(-1)!))];
const spec = { rank: 4, alpha: 12, seed: new Uint8Array(32).fill(3), targetModules, modules };
const theta = initialAdapter(spec);
const random = new Prng(spec.seed, 'lora_B');
for (const { factor, offset, length } of adapterLayout(spec).tensors) {
  if (factor === 'A') continue;
  for (let i = 0; i < length; i++) theta[offset + i] = B_MAX * (2 * random.nextFloat() - 1);
}
await mkdir(out, { recursive: true });
await rm(join(out, 'merged'), { recursive: true, force: true });
const gguf = resolve(out, 'adapter.gguf');
const { signal } = new AbortController();
await writePeftAdapter(join(out, 'adapter'), { spec, theta, baseModelName: dir });
await writeGgufAdapter(gguf, { config, adapter: spec, theta, name });
await writeMergedModel(join(out, 'merged'), {
  ...{ dir, config, weights, adapter: spec, theta, dtype: 'fp32', signal },
  onProgress: () => undefined,
});
say(`${out}: adapter, merged, adapter.gguf`);

if (baseGguf !== undefined && llamaDir !== undefined) {
  const tokenizer = await openTokenizer(dir, config);
  const prompts = PROMPTS.map((text) => promptTokens(tokenizer, text));
  const graph = await openNextTokenGraph({
    ...{ config, weights, adapter: spec, capacity: 64, chunk: 4 },
    executor: ortExecutor({ threads: 1 }),
  });
  const main = createRequire(join(resolve(llamaDir), 'package.json')).resolve('node-llama-cpp');
  const { getLlama } = (await import(pathToFileURL(main).href)) as {
    getLlama: (options: object) => Promise<Llama>;
  };
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true });
  const model = await llama.loadModel({ modelPath: resolve(baseGguf) });
  let isEqual = true;
  const texts: string[] = [];
  for (const [what, values, lora] of [
    ['base', new Float32Array(theta.length), []],
    ['with the adapter', theta, [{ filePath: gguf, scale: 1 }]],
  ] as const) {
    const reader = graph.reader(values);
    for (const prompt of prompts) {
      const ours = await greedy(reader, prompt);
      const context = await model.createContext({
        ...{ contextSize: 128, threads: 1, flashAttention: false },
        ...(lora.length > 0 ? { lora: { adapters: lora } } : {}),
      });
      const theirs: number[] = [];
      const tokens = context.getSequence().evaluate(prompt, { temperature: 0 });
      for await (const token of tokens) {
        theirs.push(token);
        if (theirs.length === TOKENS) break;
      }
      await context.dispose();
      const length = theirs.length;
      const same = theirs.findIndex((token, i) => token !== ours.tokens[i]);
      isEqual &&= same === -1 || (ours.leads[same] ?? 0) < TIE;
      texts.push(ours.tokens.join());
      const gap = same === -1 ? '' : `, then ours leads by ${ours.leads[same]?.toExponential(1)}`;
      say(`${what}: ${same === -1 ? length : same} of ${length} tokens equal${gap}`);
    }
  }
  const [base, adapted] = [texts.slice(0, PROMPTS.length), texts.slice(PROMPTS.length)];
  const changed = adapted.filter((text, i) => text !== base[i]).length;
  say(`the adapter changes ${changed} of ${PROMPTS.length} texts`);
  await model.dispose();
  process.exit(isEqual && changed > 0 ? 0 : 1);
}

/** TOKENS likeliest tokens, and by how much the logit of each leads. */
async function greedy(
  reader: NextTokenModel,
  prompt: readonly number[],
): Promise<{ tokens: number[]; leads: number[] }> {
  const [tokens, leads]: [number[], number[]] = [[], []];
  reader.forget();
  for (let unread = prompt; tokens.length < TOKENS; unread = tokens.slice(-1)) {
    const logits = await reader.read(unread);
    const best = likeliest(logits);
    const second = logits.reduce(
      (most, logit, i) => (i === best ? most : Math.max(most, logit)),
      -Infinity,
    );
    tokens.push(best);
    leads.push(logits[best]! - second);
  }
  return { tokens, leads };
}
