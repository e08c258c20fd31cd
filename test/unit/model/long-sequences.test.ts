import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { extname } from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openLanguageModel, type LanguageModel } from '../../../node/model/language-model.js';
import { IGNORED_TARGET } from '../../../node/model/token-batch.js';
import { l2Norm } from '../../../node/train/optimiser.js';
import { openCase, randomTokens } from './small-case.js';

/** Texts of a row, and tokens of each: together too many for probabilities to be kept. */
const [TEXTS, LENGTH] = [9, 64];

describe('texts packed in a long row', () => {
  for (const name of ['llama-gqa-tied', 'qwen3-window', 'gemma3', 'phi3'] as const) {
    it(`have the loss and gradient that they have in short rows: ${name}`, async () => {
      const { options, model, theta } = await openCase(name, ['all-linear']);
      await model.dispose();
      const config = { ...options.config, maxPositions: TEXTS * LENGTH };
      const open = (batchSize: number, memory: 'normal' | 'low'): Promise<LanguageModel> => {
        const sequenceLength = (TEXTS * LENGTH) / batchSize;
        return openLanguageModel({ ...options, config, batchSize, sequenceLength, memory });
      };
      const tokens = randomTokens(TEXTS * LENGTH, config.vocabSize);
      const batch = {
        tokens,
        targets: tokens.map((_, i) =>
          i % LENGTH === LENGTH - 1 ? IGNORED_TARGET : tokens[i + 1]!,
        ),
        segments: tokens.map((_, i) => Math.floor(i / LENGTH)),
      };
      const apart = await open(TEXTS, 'normal');
      const expected = await apart.gradient(batch, theta);
      await apart.dispose();
      for (const memory of ['normal', 'low'] as const) {
        const packed = await open(1, memory);
        const actual = await packed.gradient(batch, theta);
        await packed.dispose();
        assert.ok(Math.abs(actual.loss - expected.loss) < 2e-6, `${actual.loss}`);
        const off = l2Norm(actual.gradient.map((g, i) => g - expected.gradient[i]!));
        assert.ok(off < 2e-6 * l2Norm(expected.gradient), `${memory}: off by ${off}`);
      }
    });
  }

  it('are refused where one goes on after another', async () => {
    const { model, theta } = await openCase('llama-gqa-tied', ['all-linear']);
    const tokens = randomTokens(34, model.config.vocabSize);
    const segments = tokens.map((_, i) => Number(i % 17 === 5));
    await assert.rejects(model.loss({ tokens, targets: tokens, segments }, theta), RangeError);
    await model.dispose();
  });
});

/** The most anonymous memory of a process that computes a gradient over so many tokens, bytes. */
async function memoryOf(tokens: number): Promise<number> {
  // Compiled tests start a compiled child.
  const here = extname(fileURLToPath(import.meta.url));
  const child = fileURLToPath(new URL('./long-child.ts', import.meta.url)).replace(/\.ts$/, here);
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [...process.execArgv.filter((one) => !one.startsWith('--test')), child, String(tokens)],
    { timeout: 300_000 },
  );
  return Number(stdout);
}

describe('memory of a step over one long text', { skip: process.platform !== 'linux' }, () => {
  it('grows with its tokens, not with their square', async () => {
    const [short, middle, long] = await Promise.all([1024, 2048, 4096].map(memoryOf));
    // In a straight line three times as much, with the square five times.
    const growth = (long! - short!) / (middle! - short!);
    assert.ok(growth < 4, `${growth}: ${short}, ${middle} and ${long} bytes`);
    const scores = 4 * 6 * 4096 ** 2;
    assert.ok(long! - short! < scores / 2, `${long! - short!} bytes more`);
  });
});
