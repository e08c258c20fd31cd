/** murmurate data check: what training would make of data files, before anything is trained. */
import type { Writable } from 'node:stream';
import { switchOption } from '../config.js';
import { openChatTemplate } from '../data/chat-template.js';
import { placeText } from '../data/records.js';
import { PROBLEMS_MAX, reportOn, type DataReport, type Sample } from '../data/report.js';
import { DATA_FILE_KINDS, leftOutText } from '../data/sources.js';
import { openTokenizer, type Tokenizer } from '../data/tokenizer.js';
import { EXIT_FAILURE, EXIT_USAGE, UserError } from '../errors.js';
import { openModelDirectory } from '../model/model-directory.js';
import { modelDirectory, modelOption } from './base-choice.js';
import { columnOptions } from './data-options.js';
import { directoryOption, jsonOption, peerOptions } from './peer-options.js';
import { runOptions } from './run-options.js';
import { autoSequenceLength, usualRequest } from './sequence-length.js';
import { columnsInForce, inForce, readStored } from './settings-in-force.js';
import { defineVerb } from './verb.js';
import { printable, printableLine } from '../printable.js';
import { rawOutput } from './output.js';

/** Characters of a stretch that a sample shows, and stretches of it. */
const STRETCH_SHOWN_MAX = 400;
const STRETCHES_SHOWN_MAX = 8;
/** Time between two lines about how far it is, in ms. */
const PROGRESS_MS = 5_000;
/** Characters of the longest bar. */
const BAR_LENGTH = 30;

export const dataVerb = defineVerb({
  name: 'data',
  summary: 'Look through data files: what would be trained on, and what is wrong with them.',
  args: [
    { name: 'check', help: 'what to do: check', required: true, words: ['check'] },
    { name: 'FILE', help: DATA_FILE_KINDS, required: true, several: true },
  ],
  options: {
    model: {
      ...modelOption.model,
      help: 'whose tokenizer and chat template; as for start',
      defaultText: 'the embedded tiny-base',
    },
    sequenceLength: {
      ...runOptions.sequenceLength,
      help: 'tokens in one sequence, as for start; longer records are cut',
      defaultText: 'that of the run in --dir, or auto',
    },
    heldOut: {
      ...peerOptions.heldOut,
      defaultText: `that of the peer in --dir, or ${peerOptions.heldOut.default}`,
    },
    ...directoryOption,
    ...columnOptions,
    all: switchOption(`list up to ${PROBLEMS_MAX} problems instead of the first`),
    noSamples: switchOption('print none of the text'),
    ...jsonOption,
  },
  example: `
$ murmurate data check keys.csv --no-samples
records     60, 60 prompt and completion
tokens      960; of a record 15 to 17, median 16, 95 of 100 up to 17
  up to 16  ██████████████████████████████ 50
  up to 32  ██████ 10
trained on  252 tokens; 708 are only read
sequences   64 tokens (--sequence-length auto): 95 of 100 records have at most 17 tokens
longer      0 of 60 records (0.0 %) have more than 64 tokens
duplicates  0; 0 more differ in capitals and signs alone
split       55 records are trained on, 5 are held out
no problems`,
  run: async ({ args: [action, ...files], options: asked, given, io }) => {
    if (action !== 'check') {
      throw new UserError(
        `"${action ?? ''}" is nothing that murmurate data does; give "murmurate data check FILE..."`,
        EXIT_USAGE,
      );
    }
    const { manifest, settings } = await readStored(asked.dir);
    const options = inForce(asked, given, manifest);
    const directory = await openModelDirectory(await modelDirectory(options.model, settings, io));
    const tokenizer = await openTokenizer(directory.dir, directory.config);
    const paths = files.filter((file) => file !== null);
    const columns = columnsInForce(options, given, settings);
    const request = usualRequest(directory, paths, columns);
    const { sequenceLength: wanted } = options;
    const length =
      wanted === 'auto'
        ? await autoSequenceLength(request, io.signal)
        : { tokens: wanted, why: null };
    const report = await reportOn(paths, {
      tokenizer,
      chatTemplate: await openChatTemplate(directory.dir),
      sequenceLength: length.tokens,
      heldOutShare: given.has('heldOut')
        ? options.heldOut
        : (settings?.heldOutShare ?? options.heldOut),
      // The order of the rows is no concern of what is in them.
      seed: new Uint8Array(32),
      columns,
      onProgress: sayProgress(io.stderr),
      signal: io.signal,
    });
    const shown = options.noSamples ? { ...report, samples: [] } : report;
    const { all } = options;
    const writing = { tokenizer, length, all, run: manifest?.name ?? null };
    // The report escapes what is not its own, and has colours.
    rawOutput(io.stdout).write(
      options.json
        ? printable(jsonReport(shown, writing))
        : textReport(shown, writing, isColourful(io.stdout)),
    );
    if (report.problemCount === 0) return;
    throw new UserError(
      `${report.problemCount} ${report.problemCount === 1 ? 'problem' : 'problems'} in the data: training would stop at the first`,
      EXIT_FAILURE,
    );
  },
});

interface Writing {
  tokenizer: Tokenizer;
  /** Tokens of a sequence, and why so many, where nobody said how many. */
  length: { tokens: number; why: string | null };
  all: boolean;
  /** Whose settings these are; null where there is no run yet. */
  run: string | null;
}

function isColourful(stdout: Writable): boolean {
  return 'isTTY' in stdout && stdout.isTTY === true && process.env['NO_COLOR'] === undefined;
}

function sayProgress(out: Writable): (records: number, tokens: number) => void {
  let saidMs = performance.now();
  return (records, tokens) => {
    const nowMs = performance.now();
    if (nowMs - saidMs < PROGRESS_MS) return;
    saidMs = nowMs;
    out.write(`read ${grouped(records)} records, ${grouped(tokens)} tokens\n`);
  };
}

function jsonReport(report: DataReport, { tokenizer, all, length }: Writing): string {
  const samples = report.samples.map(({ stretches, ...place }) => ({
    ...place,
    parts: stretches.map(({ tokens, trained }, i) => ({
      text: textOf(tokens, i, tokenizer),
      trained,
    })),
  }));
  const problems = report.problems.slice(0, all ? PROBLEMS_MAX : 1);
  return `${JSON.stringify({ ...report, sequenceLength: length.tokens, samples, problems })}\n`;
}

const KINDS = {
  text: 'text',
  completion: 'prompt and completion',
  instruction: 'instruction and output',
  messages: 'conversations',
} as const;

function textReport(report: DataReport, writing: Writing, colour: boolean): string {
  const samples = report.samples.map((sample) => sampleText(sample, writing.tokenizer, colour));
  const rows = rowsOf(report, writing);
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
  return [...lines, ...samples, problemsText(report, writing.all), ''].join('\n');
}

function rowsOf(report: DataReport, { length, run }: Writing): [string, string][] {
  const { records, lengths, split, longer, skipped, touching } = report;
  const kinds = Object.entries(report.byKind).map(
    ([kind, count]) => `${grouped(count)} ${KINDS[kind as keyof typeof KINDS]}`,
  );
  const rows: [string, string][] = [['records', [grouped(records), ...kinds].join(', ')]];
  if (skipped.length > 0) {
    rows.push(['left out', leftOutText(skipped)]);
  }
  if (records === 0) return rows;
  if (run !== null) rows.push(['settings', `those of the run "${run}"`]);
  const { min, max, median, p95, total } = lengths;
  const { tokens: sequenceLength, why } = length;
  const chosen = `${grouped(sequenceLength)} tokens (--sequence-length auto): ${why}`;
  rows.push(
    [
      'tokens',
      `${grouped(total)}; of a record ${grouped(min)} to ${grouped(max)}, median ${grouped(median)}, 95 of 100 up to ${grouped(p95)}`,
    ],
    ...barsOf(report),
    [
      'trained on',
      `${grouped(report.trainedTokens)} tokens; ${grouped(report.contextTokens)} are only read`,
    ],
    ...(why === null ? [] : [['sequences', chosen] as [string, string]]),
    ['longer', longerText(longer, records, sequenceLength)],
    [
      'duplicates',
      `${grouped(report.duplicates)}; ${grouped(report.nearDuplicates - report.duplicates)} more differ in capitals and signs alone`,
    ],
  );
  if (touching > 0) {
    rows.push([
      'touching',
      `${grouped(touching)} prompts touch their completion: end them with a space or a line break, unless that is meant`,
    ]);
  }
  if (split !== null) {
    const aside = split.heldOutExamples;
    rows.push([
      'split',
      `${grouped(split.examples)} records are trained on, ${grouped(aside)} ${aside === 1 ? 'is' : 'are'} held out`,
    ]);
  }
  return rows;
}

function barsOf({ histogram }: DataReport): [string, string][] {
  const most = Math.max(...histogram.map(({ records }) => records));
  return histogram.map(({ upTo, records }) => {
    const bar = '█'.repeat(Math.ceil((BAR_LENGTH * records) / most));
    return [`  up to ${grouped(upTo)}`, `${bar} ${grouped(records)}`.trimStart()];
  });
}

function longerText(longer: DataReport['longer'], records: number, sequenceLength: number): string {
  const head = `${grouped(longer.records)} of ${grouped(records)} records (${percent(longer.recordShare)}) have more than ${sequenceLength} tokens`;
  if (longer.records === 0) return head;
  return `${head} and are cut; ${grouped(longer.droppedTokens)} tokens of prompts (${percent(longer.tokenShare)}) are dropped`;
}

function problemsText({ problems, problemCount }: DataReport, all: boolean): string {
  if (problemCount === 0) return 'no problems';
  const shown = problems.slice(0, all ? PROBLEMS_MAX : 1);
  const left = problemCount - shown.length;
  const more =
    left === 0
      ? []
      : [`and ${grouped(left)} more${all ? '' : `; --all lists up to ${PROBLEMS_MAX}`}`];
  return [...shown.map((problem) => `problem: ${printable(problem)}`), ...more].join('\n');
}

/** The text as the model sees it, what is trained in green or in brackets. */
function sampleText(
  { stretches, file, ...place }: Sample,
  tokenizer: Tokenizer,
  colour: boolean,
): string {
  const [open, close] = colour ? ['\u001b[32m', '\u001b[0m'] : ['⟦', '⟧'];
  const parts = stretches.slice(0, STRETCHES_SHOWN_MAX).map(({ tokens, trained }, i) => {
    const shown = shortened(printable(textOf(tokens, i, tokenizer)));
    return trained ? `${open}${shown}${close}` : shown;
  });
  const more = stretches.length > STRETCHES_SHOWN_MAX ? ' ...' : '';
  return `--- ${printableLine(placeText(file, place))}\n${parts.join('')}${more}\n---`;
}

/** Of stretch `index` of a sample: all but the first go on from the one before. */
function textOf(tokens: readonly number[], index: number, tokenizer: Tokenizer): string {
  return index === 0
    ? tokenizer.decode(tokens, false)
    : tokenizer.decodeContinuation(tokens, false);
}

function shortened(shown: string): string {
  if (shown.length <= STRETCH_SHOWN_MAX) return shown;
  const half = STRETCH_SHOWN_MAX / 2;
  return `${shown.slice(0, half)} [...] ${shown.slice(-half)}`;
}

function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
