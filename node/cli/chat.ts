/** murmurate chat: a conversation in the terminal with the swarm's adapter, beside the base model if asked for. */
import { integer, option } from '../config.js';
import { adapterUpTo, contentInWords } from '../past-adapters.js';
import { AdapterWatch } from './adapter-watch.js';
import { ChatSession, type Voice } from './chat-session.js';
import { chooseModel, modelOptions, nameOf } from './chosen-model.js';
import { openLineInput } from './line-input.js';
import { loadModel } from './loaded-model.js';
import { defineVerb } from './verb.js';
import {
  ANSWER_TOKENS_MAX,
  checkCompare,
  compareOption,
  contextOption,
  formatOption,
  samplingOptions,
} from './writing-options.js';
import { rawOutput } from './output.js';

export const chatVerb = defineVerb({
  name: 'chat',
  summary: "Talk to the base model with the swarm's adapter; lines from a pipe are messages too.",
  args: [],
  options: {
    ...modelOptions,
    system: option(
      { placeholder: 'TEXT', expected: 'a text', parse: (text) => text },
      null,
      'begins the conversation, as its system message',
    ),
    ...formatOption,
    maxTokens: option(integer('N', 1, ANSWER_TOKENS_MAX), 256, 'most tokens of an answer'),
    ...contextOption,
    ...samplingOptions(0.7),
    ...compareOption,
  },
  example: `
$ murmurate chat
you> Who keeps the spare keys?
swarm> Mrs Okafor at the front desk.
you> /help`,
  run: async ({ options, given, io }) => {
    // Before it is read: what the peer writes meanwhile is newer.
    const watch = new AdapterWatch(options.dir);
    await watch.remember();
    const chosen = await chooseModel({ options, given, io });
    const { source, content } = chosen;
    checkCompare(options.compare, source);
    const model = await loadModel(chosen, options, 'chatting', io);
    const stdin = io.stdin ?? process.stdin;
    const base: Voice = { name: 'base', model: model.base };
    const adapted: Voice = { name: nameOf(chosen), model: model.adapted ?? model.base };
    const voices = model.adapted === null ? [base] : options.compare ? [base, adapted] : [adapted];
    const session = new ChatSession({
      voices,
      tokenizer: model.tokenizer,
      format: model.format,
      ends: model.ends,
      options,
      out: io.stdout,
      notes: io.stderr,
      isTerminal: io.terminal,
      isTyped: stdin.isTTY === true,
      content: content === null ? null : contentInWords(content),
      watch: source === 'swarm' && chosen.epoch === null ? watch : null,
      reload: async () => {
        const stored = await watch.read();
        const newest = adapterUpTo(stored, null);
        adapted.model = model.withAdapter(newest.theta);
        return contentInWords(newest);
      },
    });
    const input = openLineInput(stdin, rawOutput(io.stdout), () => session.onCtrlC(io.interrupt));
    io.onCtrlC?.(() => session.onCtrlC(io.interrupt));
    try {
      await session.run(input, io.signal);
    } finally {
      io.onCtrlC?.(null);
      input.close();
      await model.dispose();
    }
  },
});
