/** The scripts of murmurate completion, asked by the shells themselves; a shell that is not installed is left out. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, describe, it } from 'node:test';
import '../../../node/net/polyfill.js';
import { COMPLETION_SCRIPTS, SHELLS, type Shell } from '../../../node/cli/completion-scripts.js';
import { runProgram } from '../../../node/cli/program.js';
import { VERBS } from '../../../node/cli/verbs.js';
import { flagOf } from '../../../node/config.js';

/** Longest that a shell may take, in ms. */
const DEADLINE_MS = 30_000;

const dir = mkdtempSync(path.join(tmpdir(), 'murmurate-completion-'));
after(() => rmSync(dir, { recursive: true }));

/** What is typed, and what a shell makes of it: the words that it offers, those without their descriptions. */
const CASES: readonly (readonly [typed: string, offered: readonly string[]])[] = [
  ['murmurate st', ['start', 'status']],
  ['murmurate swarm', ['swarm-key']],
  ['murmurate start --dev', ['--device']],
  ['murmurate join --no-', ['--no-mdns', '--no-personal']],
  ['murmurate start --device c', ['coreml', 'cpu', 'cuda']],
  ['murmurate start --data a.txt b.txt --fold r', ['robust']],
  ['murmurate join --http o', ['off']],
  ['murmurate config st', ['start']],
  ['murmurate config start --ran', ['--rank']],
  ['murmurate data ch', ['check']],
  ['murmurate data check --no', ['--no-samples']],
  ['murmurate export --dt', ['--dtype']],
  ['murmurate status --he', ['--help']],
  ['murmurate start --device=cu', ['cuda']],
];

function has(shell: Shell): boolean {
  return spawnSync(shell, ['-c', 'exit 7']).status === 7;
}

/** What `shell` writes to stdout for `program`, with the script in a file beside it. */
function ask(shell: Shell, flags: readonly string[], program: string): string {
  writeFileSync(path.join(dir, 'script'), COMPLETION_SCRIPTS[shell](VERBS));
  const options = {
    cwd: dir,
    encoding: 'utf8',
    timeout: DEADLINE_MS,
    killSignal: 'SIGKILL',
  } as const;
  const { status, stdout, stderr } = spawnSync(shell, [...flags, '-c', program], options);
  assert.equal(status, 0, stderr);
  assert.equal(stderr, '');
  return stdout;
}

describe('murmurate completion', () => {
  it('prints the script of the shell that is named, and refuses others', async () => {
    const run = async (name: string): Promise<[number, string]> => {
      const [stdout, stderr] = [new PassThrough(), new PassThrough()];
      const { signal } = new AbortController();
      const io = { stdout, stderr, terminal: false, signal, interrupt: () => undefined };
      const exitCode = await runProgram(VERBS, ['completion', name], io, {});
      stdout.end();
      stderr.end();
      return [exitCode, (await collect(stdout)) + (await collect(stderr))];
    };
    for (const shell of SHELLS)
      assert.deepEqual(await run(shell), [0, COMPLETION_SCRIPTS[shell](VERBS)]);
    const [exitCode, said] = await run('csh');
    assert.equal(exitCode, 2);
    assert.match(said, /^error: "csh" is no shell .* name one of bash, zsh, fish\n$/);
  });

  for (const shell of SHELLS) {
    it(`${shell}: the script holds every verb and flag`, () => {
      const script = COMPLETION_SCRIPTS[shell](VERBS);
      for (const { name, options } of VERBS) {
        assert.ok(script.includes(name), name);
        for (const option of Object.keys(options)) {
          const flag = shell === 'fish' ? `-l ${flagOf(option).slice(2)} ` : flagOf(option);
          assert.ok(script.includes(flag), `${name} ${flag}`);
        }
      }
    });
  }

  it(
    'bash: offers verbs, flags and words, and leaves the rest to paths',
    { skip: !has('bash') },
    () => {
      // As readline does it: "=" is a word of its own.
      const words = (typed: string): string[] => typed.replace('=', ' = ').split(' ');
      const questions = [
        ...CASES.map(([typed]) => typed),
        'murmurate start --data ',
        'murmurate eval a',
      ];
      const asked = questions.map(
        (typed) =>
          `COMP_WORDS=(${words(typed)
            .map((word) => `'${word}'`)
            .join(' ')}); ` +
          'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=(); _murmurate; echo "${COMPREPLY[*]}"',
      );
      const lines = ask(
        'bash',
        ['--norc'],
        ['. ./script', ...asked, 'complete -p'].join('\n'),
      ).split('\n');
      for (const [i, [typed, offered]] of CASES.entries())
        assert.deepEqual(lines[i]?.split(' ').toSorted(), offered, typed);
      assert.deepEqual(lines.slice(CASES.length, CASES.length + 2), ['', '']);
      assert.match(lines.at(-2) ?? '', /-o default -F _murmurate murmurate$/);
    },
  );

  it('fish: offers verbs, flags and words', { skip: !has('fish') }, () => {
    const asked = CASES.map(([typed]) => `complete -C '${typed}'; echo @@`);
    const answers = ask('fish', ['--no-config'], ['source ./script', ...asked].join('\n')).split(
      '@@\n',
    );
    for (const [i, [typed, offered]] of CASES.entries()) {
      const found = (answers[i] ?? '').trim().split('\n');
      const plain = found.map((line) => line.replace(/\t.*/, '').replace(/^--device=/, ''));
      assert.deepEqual(plain.toSorted(), offered, typed);
    }
  });

  it('zsh: completes verbs, flags and words', { skip: !has('zsh') }, () => {
    const only = CASES.filter(([typed, offered]) => offered.length === 1 && !typed.includes('='));
    // In a terminal of its own, where Tab completes and Ctrl-X shows what the line has become.
    const begin = [
      'PS1=; stty cols 200; autoload -Uz compinit; compinit -u -D; source ./script',
      'show() { print -r -- "<$BUFFER>"; BUFFER=; zle reset-prompt }; zle -N show; bindkey "^X" show; bindkey "^I" complete-word',
      'echo REA""DY',
    ].join('; ');
    const program = [
      'zmodload zsh/zpty; zpty inner zsh -f -i',
      `zpty -w inner '${begin}'`,
      "zpty -r inner seen '*READY*'",
      ...only.map(
        ([typed]) =>
          `zpty -w -n inner '${typed}'$'\\t\\x18'; zpty -r inner seen '*<*>*'; print -r -- "$seen"`,
      ),
      'zpty -d inner',
    ].join('\n');
    const seen = [...ask('zsh', ['-f'], program).matchAll(/<([^>]*)>/g)].map((found) => found[1]);
    assert.deepEqual(
      seen.map((line) => line?.trim()),
      only.map(([typed, [word]]) => typed.replace(/[^ ]*$/, word ?? '')),
    );
  });
});
