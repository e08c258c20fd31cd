/** murmurate completion: a script by which a shell completes verbs, flags and the words that these take. */
import { EXIT_USAGE, UserError } from '../errors.js';
import { COMPLETION_SCRIPTS, SHELLS } from './completion-scripts.js';
import { defineVerb } from './verb.js';

export const completionVerb = defineVerb({
  name: 'completion',
  summary: 'Print a script by which bash, zsh or fish completes verbs, flags and their words.',
  args: [{ name: 'SHELL', help: SHELLS.join(', '), required: true, words: SHELLS }],
  options: {},
  isUnconfigured: true,
  example: `
$ murmurate completion bash > ~/.local/share/bash-completion/completions/murmurate
$ murmurate completion zsh > ~/.zfunc/_murmurate   # with fpath+=(~/.zfunc) before compinit in ~/.zshrc
$ murmurate completion fish > ~/.config/fish/completions/murmurate.fish`,
  run: ({ args: [name], verbs, io }) => {
    const shell = SHELLS.find((one) => one === name);
    if (shell === undefined) {
      throw new UserError(
        `"${name ?? ''}" is no shell that can be helped; name one of ${SHELLS.join(', ')}`,
        EXIT_USAGE,
      );
    }
    io.stdout.write(COMPLETION_SCRIPTS[shell](verbs));
    return Promise.resolve();
  },
});
