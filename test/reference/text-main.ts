/**
 * npm run reference:text -- MODEL_DIR DATA.jsonl REFERENCE.json: compares greedy generation and loss of a
 * real model with what make_text_reference.py wrote about it; exit code 1 where they differ, 2 for wrong usage.
 */
import { compareText, LOSS_BOUND } from './text.js';

const [modelDir, data, file] = process.argv.slice(2);
if (modelDir === undefined || data === undefined || file === undefined) {
  process.stderr.write(
    'give a model directory, the data, and what test/reference/make_text_reference.py wrote about them\n',
  );
  process.exit(2);
}
const { prompts, tokens, loss } = await compareText(modelDir, data, file);

function say(passes: boolean, sentence: string): void {
  if (!passes) process.exitCode = 1;
  process.stdout.write(`${passes ? 'ok  ' : 'FAIL'} ${sentence}\n`);
}

for (const { text, sameIds, written, same, margin } of prompts) {
  say(
    sameIds && same === written,
    `${same} of ${written} greedy tokens equal, smallest margin ${margin.toFixed(4)}${sameIds ? '' : ', other prompt ids'}: ${JSON.stringify(text)}`,
  );
}
const difference = Math.abs(loss.actual - loss.expected);
say(
  tokens.actual === tokens.expected && difference <= LOSS_BOUND,
  `loss ${loss.actual.toFixed(7)} nats over ${tokens.actual} tokens, expected ${loss.expected.toFixed(7)} over ${tokens.expected}: ${difference.toExponential(1)} apart (at most ${LOSS_BOUND.toExponential(1)})`,
);
