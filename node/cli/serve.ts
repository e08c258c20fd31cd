/** murmurate serve: base model and adapter behind a part of the OpenAI API, for programs of this machine. */
import { integer, option, text } from '../config.js';
import { UserError } from '../errors.js';
import { startOpenAiServer } from '../http/openai/server.js';
import { readBoundedFile } from '../json-file.js';
import { createLogger } from '../log.js';
import { modelName } from '../model/model-directory.js';
import { AdapterWatch } from './adapter-watch.js';
import { chooseModel, modelOptions, nameOf } from './chosen-model.js';
import { loadModel } from './loaded-model.js';
import { logOptions } from './peer-options.js';
import { fingerprintOf, ServeEngine } from './serve-engine.js';
import { defineVerb } from './verb.js';
import { contextOption, formatOption } from './writing-options.js';
import { rawOutput } from './output.js';

/** Characters of an API key: fewer can be guessed, more do not fit into a header. */
const KEY_CHARACTERS_MIN = 16;
const KEY_CHARACTERS_MAX = 512;

export const serveVerb = defineVerb({
  name: 'serve',
  summary: "Answer programs of this machine with the swarm's adapter, as the OpenAI API does.",
  args: [],
  options: {
    ...modelOptions,
    port: option(integer('PORT', 0, 65_535), 8080, 'on 127.0.0.1; 0 takes any free one'),
    apiKeyFile: option(
      text('FILE'),
      null,
      'a file with a key that every request must bring (default: none is asked for)',
    ),
    ...formatOption,
    ...contextOption,
    ...logOptions,
  },
  stays: true,
  example: `
$ murmurate serve
http://127.0.0.1:8080/v1
models: tiny-base, tiny-base+swarm

$ curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "tiny-base+swarm", "messages": [{"role": "user", "content": "Who keeps the spare keys?"}]}'`,
  run: async ({ options, given, io }) => {
    const apiKey = options.apiKeyFile === null ? null : await readKey(options.apiKeyFile);
    // Before it is read: what the peer writes meanwhile is newer.
    const watch = new AdapterWatch(options.dir);
    await watch.remember();
    const chosen = await chooseModel({ options, given, io });
    const { source, content } = chosen;
    const model = await loadModel(chosen, options, 'serving', io);
    const logger = createLogger({
      level: options.logLevel,
      format: options.logFormat,
      out: rawOutput(io.stderr),
    });
    const baseId = modelName(chosen.dir);
    const fingerprint = content === null ? 'adapter' : fingerprintOf(content);
    const engine = new ServeEngine({
      model,
      baseId,
      adapted: source === 'none' ? null : { id: `${baseId}+${nameOf(chosen)}`, fingerprint },
      watch: source === 'swarm' && chosen.epoch === null ? watch : null,
      onReload: (content) => logger.info({ content }, 'took a newer adapter'),
    });
    const { signal } = io;
    try {
      const server = await startOpenAiServer({
        port: options.port,
        engine,
        apiKey,
        logger,
        signal,
      });
      io.stdout.write(`${server.url}/v1\nmodels: ${engine.models.join(', ')}\n`);
      await new Promise<void>((resolve) => {
        if (signal.aborted) resolve();
        else signal.addEventListener('abort', () => resolve(), { once: true });
      });
      await server.stop();
    } finally {
      await model.dispose();
    }
  },
});

/** Throws UserError; no error holds any of the key. */
async function readKey(file: string): Promise<string> {
  const bytes = await readBoundedFile(file, KEY_CHARACTERS_MAX + 2, 'the API key');
  const key = new TextDecoder().decode(bytes).trim();
  if (key.length >= KEY_CHARACTERS_MIN && /^[\x21-\x7e]+$/.test(key)) return key;
  throw new UserError(
    `${file} holds no API key: it must be one line of ${KEY_CHARACTERS_MIN} to ${KEY_CHARACTERS_MAX} printable ASCII characters, like the output of "openssl rand -hex 32"`,
  );
}
