/** murmurate init: asks what a first start needs, checks each answer at once, and writes murmurate.yaml. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { EXIT_USAGE, UserError } from '../errors.js';
import { option, switchOption, text, type OptionValues } from '../config.js';
import { CONFIG_FILE } from '../config/file.js';
import { USUAL_COLUMNS } from '../data/columns.js';
import { openChatTemplate } from '../data/chat-template.js';
import { openDataset } from '../data/dataset.js';
import { readRecords } from '../data/readers.js';
import { findDataFiles } from '../data/sources.js';
import { openTokenizer } from '../data/tokenizer.js';
import { errnoOf, replaceFile } from '../files.js';
import { readInvite } from '../invite.js';
import { openModelDirectory } from '../model/model-directory.js';
import { parseAddress } from '../net/addresses.js';
import { looksLikeInvite } from '../../protocol/invite.js';
import { EMBEDDED_MODEL_DIRECTORY } from '../version.js';
import { hubNameMeant } from './base-choice.js';
import { dataText, sayDataFiles } from './data-options.js';
import { configText, type Answers } from './init-text.js';
import { peerOptions } from './peer-options.js';
import { runOptions } from './run-options.js';
import { sequenceLengthOf, usualRequest } from './sequence-length.js';
import { Questions } from './questions.js';
import { defineVerb, type VerbIo } from './verb.js';

/** A file with an invite in it is for its owner alone. */
const SECRET_MODE = 0o600;
const OPEN_MODE = 0o644;
/** Bytes of data that are tokenised for the sake of one line: some 20 s of them. */
const MEASURED_BYTES_MAX = 16 * 1024 * 1024;

const initOptions = {
  data: peerOptions.data,
  model: peerOptions.model,
  found: switchOption('found a run'),
  join: option(text('ADDRESS'), null, 'join a run: the address of any peer of it, or an invite'),
  open: switchOption('everybody may take part in the run'),
  inviteOnly: switchOption('only those with an invite may take part in the run'),
  force: switchOption('overwrite FILE without asking'),
} as const;

export const initVerb = defineVerb({
  name: 'init',
  summary: 'Ask four questions and write a config file for start or join.',
  args: [{ name: 'FILE', help: `the file to write (default: ./${CONFIG_FILE})`, required: false }],
  options: initOptions,
  isUnconfigured: true,
  example: `
$ murmurate init
What is your text? Files, separated by commas: notes.jsonl
notes.jsonl: 320 examples
Which model? A directory, or nothing for the embedded one:
Found a run, or join one? "found", an address or an invite: found
Who may take part? "open" or "invite": open
murmurate.yaml is written; next: murmurate start`,
  run: async ({ args: [file], options, io }) => {
    checkFlags(options);
    const path = file ?? CONFIG_FILE;
    const questions = io.answers ? new Questions(io, io.answers) : null;
    try {
      await checkTarget(path, options.force, questions);
      const answers = await collect(options, questions, io);
      const isSecret = answers.address !== null && looksLikeInvite(answers.address);
      await write(path, configText(answers), isSecret ? SECRET_MODE : OPEN_MODE);
      const verb = answers.address === null ? 'start' : 'join';
      const where = path === CONFIG_FILE ? '' : ` --config ${JSON.stringify(path)}`;
      io.stdout.write(`${path} is written; next: murmurate ${verb}${where}\n`);
      if (answers.isInviteOnly) {
        io.stdout.write('while that runs, murmurate invite lets in one peer each\n');
      }
    } finally {
      questions?.close();
    }
  },
});

type InitOptions = OptionValues<typeof initOptions>;

function checkFlags({ found, join, open, inviteOnly }: InitOptions): void {
  const pairs: [boolean, string][] = [
    [found && join !== null, '--found and --join'],
    [open && inviteOnly, '--open and --invite-only'],
    [join !== null && (open || inviteOnly), '--join and --open or --invite-only'],
  ];
  const [, both] = pairs.find(([isBoth]) => isBoth) ?? [];
  if (both === undefined) return;
  throw new UserError(`${both} exclude each other; give one of them`, EXIT_USAGE);
}

/** Each answer from its flag, where that was given, else from the person. */
async function collect(
  { data: files, model, found, join, open, inviteOnly }: InitOptions,
  questions: Questions | null,
  io: VerbIo,
): Promise<Answers> {
  const ask = async <T>(
    flags: string,
    question: string,
    read: (answer: string) => T | Promise<T>,
  ): Promise<T> => {
    if (questions !== null) return questions.ask(question, read);
    throw new UserError(
      `there is no terminal to ask in: answer with ${flags} (see "murmurate init --help")`,
      EXIT_USAGE,
    );
  };
  const readData = (answer: string): Promise<string[]> =>
    checkData(
      answer.split(',').map((one) => one.trim()),
      io,
    );
  const data =
    files.length > 0
      ? await checkData(files, io)
      : await ask(
          '--data FILE...',
          'What is your text? Files or folders, separated by commas:',
          readData,
        );
  const modelQuestion =
    'Which model? OWNER/NAME on the hub, a directory, or nothing for the embedded one:';
  const isAsked = model === null && questions !== null;
  const modelDir = isAsked
    ? await questions.ask(modelQuestion, checkModel)
    : await checkModel(model ?? '');
  const addressQuestion = 'Found a run, or join one? "found", an address or an invite:';
  const given = join ?? (found || open || inviteOnly ? '' : null);
  const address =
    given === null
      ? await ask('--found or --join ADDRESS', addressQuestion, checkAddress)
      : checkAddress(given);
  if (address === null) await sayCut(data, modelDir, io);
  const isDecided = address !== null || open || inviteOnly;
  const isInviteOnly = isDecided
    ? inviteOnly
    : await ask('--open or --invite-only', 'Who may take part? "open" or "invite":', checkWho);
  return { data, modelDir, address, isInviteOnly };
}

/** Reads every file to its end, those of folders too. Absolute paths; throws UserError. */
async function checkData(paths: readonly string[], io: VerbIo): Promise<string[]> {
  for (const file of await sayDataFiles(paths, io.stderr)) {
    let examples = 0;
    for await (const record of readRecords(file)) {
      if (record.line > 0) examples++;
      io.signal.throwIfAborted();
    }
    io.stderr.write(`${file}: ${examples} ${examples === 1 ? 'example' : 'examples'}\n`);
  }
  return paths.map((path) => resolve(path));
}

/** What start would train of the data and cut, in its own words. Throws UserError for data that it would refuse. */
async function sayCut(
  data: readonly string[],
  model: string | null,
  { stderr, signal }: VerbIo,
): Promise<void> {
  if (model !== null && (await hubNameMeant(model)) !== null) {
    stderr.write('data: the first start fetches the model and then says what of the data is cut\n');
    return;
  }
  const { files } = await findDataFiles(data);
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  if (sizes.reduce((sum, size) => sum + size, 0) > MEASURED_BYTES_MAX) {
    stderr.write('data: too much to measure here; murmurate data check says what of it is cut\n');
    return;
  }
  const directory = await openModelDirectory(model ?? EMBEDDED_MODEL_DIRECTORY);
  const { dir, config } = directory;
  const request = usualRequest(directory, files, USUAL_COLUMNS);
  const auto = runOptions.sequenceLength.default;
  const sequenceLength = await sequenceLengthOf(
    auto,
    () => Promise.resolve(request),
    stderr,
    signal,
  );
  const { stats } = await openDataset(files, {
    tokenizer: await openTokenizer(dir, config),
    chatTemplate: await openChatTemplate(dir),
    ...{ sequenceLength, heldOutShare: peerOptions.heldOut.default },
    seed: new Uint8Array(32),
    onExample: () => {
      signal.throwIfAborted();
    },
  });
  stderr.write(`data: ${dataText(stats, { sequenceLength })}\n`);
}

/** Null for the embedded model; a name on the hub stays one, and is fetched by the first start. Throws UserError. */
async function checkModel(answer: string): Promise<string | null> {
  if (answer === '') return null;
  const isName = (await hubNameMeant(answer)) !== null;
  return isName ? answer : (await openModelDirectory(answer)).dir;
}

/** Null to found a run. Throws UserError. */
function checkAddress(answer: string): string | null {
  if (answer === '' || answer.toLowerCase() === 'found') return null;
  if (looksLikeInvite(answer)) readInvite(answer);
  else parseAddress(answer);
  return answer;
}

/** Whether the run is for the invited alone. Throws UserError. */
function checkWho(answer: string): boolean {
  const word = answer.toLowerCase();
  if (['', 'open'].includes(word)) return false;
  if (['invite', 'invite only', 'invite-only'].includes(word)) return true;
  throw new UserError(`"${answer}" is neither; say open or invite`);
}

/** Throws UserError (wrong usage) when there is a file that must stay. */
async function checkTarget(
  path: string,
  force: boolean,
  questions: Questions | null,
): Promise<void> {
  if (force || !(await exists(path))) return;
  const isYes = (answer: string): boolean => /^y(es)?$/i.test(answer);
  if ((await questions?.ask(`${path} is there already. Overwrite it? [y/N]`, isYes)) === true)
    return;
  throw new UserError(
    `${path} is there already and stays as it is; give another FILE, or --force to overwrite it`,
    EXIT_USAGE,
  );
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function write(path: string, content: string, mode: number): Promise<void> {
  try {
    await replaceFile(path, [content], mode);
  } catch (cause) {
    throw new UserError(
      `${path} cannot be written (${errnoOf(cause) ?? 'unknown error'}): check the directory's permissions and free space`,
      undefined,
      { cause },
    );
  }
}
