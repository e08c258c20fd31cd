/** murmurate eval: loss and perplexity of whole files, or multiple choice, under the base model and an adapter side by side. */
import { availableParallelism } from 'node:os';
import type { Writable } from 'node:stream';
import Table from 'cli-table3';
import { integer, option } from '../config.js';
import { openChatTemplate } from '../data/chat-template.js';
import { openDataset, type DatasetStats, type ReadExample } from '../data/dataset.js';
import { DATA_FILE_KINDS } from '../data/sources.js';
import { holdsChoices, readChoices } from '../data/choices.js';
import type { ColumnNames } from '../data/columns.js';
import { openTokenizer, type Tokenizer } from '../data/tokenizer.js';
import type { Program } from '../engine/executor.js';
import { openLanguageModel } from '../model/language-model.js';
import type { ModelToOpen } from '../model/load.js';
import { evaluate, overall, type MeasuredLoss } from '../train/evaluate.js';
import { tellReading } from '../train/reading-progress.js';
import { adapterLayout } from '../../protocol/adapter.js';
import {
  chooseModel,
  expertsOf,
  modelOptions,
  openDevice,
  type ChosenModel,
  type OpenedDevice,
} from './chosen-model.js';
import { columnOptions, columnsOf } from './data-options.js';
import { choicesTable, scoreFiles, type ScoredFile } from './eval-choices.js';
import { jsonOption, threadsOption } from './peer-options.js';
import { DEFAULT_TOKENS } from './sequence-length.js';
import { reportTenths, sayReading } from './slow.js';
import { defineVerb, type VerbIo } from './verb.js';

/** Positions of one batch, if a row is not longer: enough for the cores, and soon over when interrupted. */
const BATCH_TOKENS = 512;

const PURPOSE = { doing: 'measuring', remedy: 'give a smaller --sequence-length,' };

export const evalVerb = defineVerb({
  name: 'eval',
  summary:
    "Measure loss and perplexity of files, or score multiple choice, with the base model and the swarm's adapter.",
  args: [{ name: 'FILE', help: DATA_FILE_KINDS, required: true, several: true }],
  options: {
    ...modelOptions,
    ...columnOptions,
    sequenceLength: option(
      integer('TOKENS', 8, 1 << 17),
      null,
      'tokens in one sequence; longer examples are cut',
      `as in the run, or ${DEFAULT_TOKENS}`,
    ),
    ...threadsOption,
    ...jsonOption,
  },
  example: `
$ murmurate eval clinic.jsonl law-office.jsonl
┌──────────────────┬────────┬───────┬────────────┬───────┬────────────┐
│ file             │ tokens │  base │ perplexity │ swarm │ perplexity │
├──────────────────┼────────┼───────┼────────────┼───────┼────────────┤
│ clinic.jsonl     │   2680 │ 4.652 │      104.8 │ 0.314 │      1.369 │
│ law-office.jsonl │   2584 │ 4.277 │      72.02 │ 0.244 │      1.276 │
│ all              │   5264 │ 4.468 │      87.18 │ 0.279 │      1.322 │
└──────────────────┴────────┴───────┴────────────┴───────┴────────────┘
base and swarm: nats per trained token, in sequences of 128 tokens`,
  run: async ({ args, options, given, io }) => {
    const files = args.filter((file) => file !== null);
    const isChoices = await Promise.all(files.map(holdsChoices));
    const chosen = await chooseModel({ options, given, io });
    const base = new Float32Array(adapterLayout(chosen.adapter).size);
    const experts = expertsOf(chosen, chosen.theta);
    const adapter = chosen.source === 'none' || experts !== null ? [] : [chosen.theta];
    const threads = options.threads ?? availableParallelism();
    const work: Work = {
      chosen,
      thetas: [base, ...adapter],
      experts: experts ?? [],
      tokenizer: await openTokenizer(chosen.dir, chosen.config),
      ...(await openDevice(chosen, options, threads, io)),
      io,
    };
    const sequenceLength =
      options.sequenceLength ??
      chosen.run?.manifest.training.sequenceLength ??
      Math.min(DEFAULT_TOKENS, chosen.config.maxPositions);
    const texts = files.filter((_, i) => isChoices[i] !== true);
    const columns = columnsOf(options);
    const measured =
      texts.length === 0 ? [] : await measure(texts, { columns, sequenceLength }, work);
    const scored = await score(
      files.filter((_, i) => isChoices[i] === true),
      work,
    );
    const report = { chosen, names: namesOf(chosen), sequenceLength, measured, scored };
    io.stdout.write(
      options.json ? jsonReport({ ...report, files: texts }) : tables({ ...report, files: texts }),
    );
  },
});

/** What is measured, and by what. */
interface Work extends OpenedDevice {
  chosen: ChosenModel;
  /** Of the base, then of the adapter, where there is one and it is not among the experts. */
  thetas: readonly Float32Array[];
  /** What is mixed; none without --personal. */
  experts: readonly Float32Array[];
  tokenizer: Tokenizer;
  io: Pick<VerbIo, 'stderr' | 'signal'>;
}

/** Losses of whole files. */
async function measure(
  files: readonly string[],
  { columns, sequenceLength }: { columns: ColumnNames; sequenceLength: number },
  { chosen, thetas, experts, tokenizer, ready, io }: Work,
): Promise<MeasuredLoss[]> {
  const tell = tellReading(sayReading(io.stderr));
  const reading = {
    ...{ tokenizer, columns, sequenceLength, heldOutShare: 0 },
    chatTemplate: await openChatTemplate(chosen.dir),
    // The order of the rows is no concern of their loss.
    seed: new Uint8Array(32),
    onExample: (example: ReadExample) => {
      io.signal.throwIfAborted();
      tell(example);
    },
  };
  const datasets = [];
  for (const file of files) datasets.push(await openDataset([file], reading));
  sayCut(datasets, sequenceLength, io.stderr);
  const batchSize = Math.max(1, Math.floor(BATCH_TOKENS / sequenceLength));
  const shape = { batchSize, sequenceLength };
  const programOf = async (one: ModelToOpen): Promise<Program> =>
    (await openLanguageModel({ ...one, ...shape })).program('loss');
  const model = await openLanguageModel({ ...(await ready(programOf, PURPOSE)), ...shape });
  try {
    const progress = reportTenths(io.stderr, 'measuring');
    const data = { model, batchSize, datasets };
    return await evaluate({ ...data, thetas, experts }, progress, io.signal);
  } finally {
    await model.dispose();
  }
}

/** Multiple choice, where there is such. */
async function score(files: readonly string[], work: Work): Promise<ScoredFile[]> {
  if (files.length === 0) return [];
  const read = await Promise.all(
    files.map(async (file) => ({ file, items: await readChoices(file) })),
  );
  return scoreFiles(read, {
    ...work,
    ready: (build) => work.ready(build, PURPOSE),
    onProgress: reportTenths(work.io.stderr, 'scoring'),
    signal: work.io.signal,
  });
}

/** Measured as they are trained: what a cut drops is not in the loss. */
function sayCut(
  datasets: readonly { stats: DatasetStats }[],
  sequenceLength: number,
  out: Writable,
): void {
  const cut = datasets.reduce((sum, { stats }) => sum + stats.cutExamples, 0);
  if (cut === 0) return;
  out.write(
    `${cut} ${cut === 1 ? 'example is' : 'examples are'} longer than a sequence (${sequenceLength} tokens) and cut; --sequence-length N measures them whole\n`,
  );
}

function namesOf({ source, epoch, own }: ChosenModel): string[] {
  const swarm = epoch === null ? source : `epoch ${epoch}`;
  const adapter = source === 'none' ? [] : [swarm];
  return ['base', ...adapter, ...(own === null ? [] : ['continued', 'alone', 'mixture'])];
}

interface Report {
  chosen: ChosenModel;
  /** Of the columns. */
  names: readonly string[];
  sequenceLength: number;
  /** Those that a loss is measured on. */
  files: readonly string[];
  /** For each of them; losses in the order of `names`. */
  measured: readonly MeasuredLoss[];
  /** Files of multiple choice. */
  scored: readonly ScoredFile[];
}

function jsonReport({ chosen, sequenceLength, files, measured, scored }: Report): string {
  const loss = (nats: number | null | undefined): object | null =>
    nats === undefined || nats === null ? null : { loss: nats, perplexity: Math.exp(nats) };
  const row = ({ tokens, losses: [base, adapter, ...personal] }: MeasuredLoss): object => ({
    tokens,
    ...{ base: loss(base), adapter: loss(adapter) },
    ...named(personal.map(loss)),
  });
  const result = {
    model: chosen.dir,
    adapter: chosen.source,
    runId: chosen.run?.id ?? null,
    epoch: chosen.epoch,
    sequenceLength,
    files: measured.map((one, i) => ({ file: files[i], ...row(one) })),
    all: measured.length === 0 ? null : row(overall(measured)),
    multipleChoice: scored.map(({ file, items, scores: [base, adapter, ...personal] }) => ({
      ...{ file, items, base },
      ...{ adapter: adapter ?? null, ...named(personal) },
    })),
  };
  return `${JSON.stringify(result)}\n`;
}

/** What --personal adds; null without it. */
function named(values: readonly unknown[]): object {
  const [continued = null, alone = null, mixture = null] = values;
  return { continued, alone, mixture };
}

function tables(report: Report): string {
  const { measured, scored, names } = report;
  const losses = measured.length === 0 ? '' : tableReport(report);
  return losses + (scored.length === 0 ? '' : choicesTable(scored, names));
}

function tableReport({ names, sequenceLength, files, measured }: Report): string {
  const table = new Table({
    head: ['file', 'tokens', ...names.flatMap((name) => [name, 'perplexity'])],
    colAligns: ['left', ...Array.from({ length: 1 + 2 * names.length }, () => 'right' as const)],
    style: { head: [], border: [], compact: true },
  });
  const add = (name: string, { tokens, losses }: MeasuredLoss): void => {
    table.push([name, tokens, ...losses.flatMap(lossAndPerplexity)]);
  };
  for (const [i, one] of measured.entries()) add(files[i] ?? '', one);
  if (measured.length > 1) add('all', overall(measured));
  return `${table.toString()}\n${names.join(', ').replace(/, (?=[^,]*$)/, ' and ')}: nats per trained token, in sequences of ${sequenceLength} tokens\n`;
}

function lossAndPerplexity(loss: number | null): string[] {
  return loss === null ? ['-', '-'] : [loss.toFixed(3), Math.exp(loss).toPrecision(4)];
}
