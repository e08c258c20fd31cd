/**
 * What deploy/Dockerfile does, without Docker: its COPY and RUN lines are carried out in empty directories, and peers
 * run from what comes out. Needs the npm registry, or npm's cache of it. Linux, as the image.
 */
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, rename, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { PACKAGE_DIRECTORY, VERSION } from '../../node/version.js';
import { CommandLine } from '../net/command-line.js';
import { makeDirectory } from '../net/harness.js';
import { checkSchema, stages } from '../unit/deploy/files.js';
import { run } from './npm.js';

const RUN = [
  ...['--listen', '/ip4/127.0.0.1/tcp/0', '--threads', '1', '--no-mdns', '--rank', '2'],
  ...['--target-modules', 'q_proj', '--epochs', '300', '--epoch-seconds', '5', '--steps', '2'],
  ...['--sequence-length', '32', '--batch-size', '2'],
];
const JOIN = RUN.slice(0, RUN.indexOf('--rank'));
const OFFICES = join(PACKAGE_DIRECTORY, 'examples', 'three-offices', 'data');

/** COPY: a folder's contents, or files; .dockerignore keeps Markdown out. */
async function copy(from: string, to: string, words: readonly string[]): Promise<void> {
  const target = words.at(-1) ?? '';
  for (const source of words.slice(0, -1)) {
    const path = join(from, source);
    const isInto = target.endsWith('/') && !(await stat(path)).isDirectory();
    await cp(path, join(to, target, isInto ? basename(source) : ''), {
      recursive: true,
      filter: (file) => !file.endsWith('.md'),
    });
  }
}

describe('the steps of the image', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let [source, app, command]: string[] = [];
  const started: CommandLine[] = [];
  before(async () => {
    directory = await makeDirectory();
    // Far from each other, and from any other node_modules.
    source = join(directory.path, 'build', 'src');
    app = join(directory.path, 'image', 'app');
    await mkdir(source, { recursive: true });
    await mkdir(app, { recursive: true });
  });
  after(async () => {
    for (const process of started) await process.dispose();
    await directory.remove();
  });

  it('build', async () => {
    const [build = [], ...others] = stages();
    assert.equal(others.length, 1);
    for (const { name, value } of build) {
      if (name === 'COPY') await copy(PACKAGE_DIRECTORY, source ?? '', value.split(' '));
      if (name === 'RUN') await run('sh', ['-c', value], source ?? '');
    }
  });

  it('copy what runs', async () => {
    for (const { value } of (stages()[1] ?? []).filter(({ name }) => name === 'COPY')) {
      const [, path = '', target = ''] = /^--from=build \/src\/(\S+) (\S+)$/.exec(value) ?? [];
      if (path === '') await copy(PACKAGE_DIRECTORY, app ?? '', value.split(' '));
      else await rename(join(source ?? '', path), join(app ?? '', target === './' ? path : target));
    }
    command = join(dirname(app ?? ''), 'murmurate');
    await symlink(join(app ?? '', 'dist', 'node', 'main.js'), command);
    assert.equal((await run(command, ['--version'], directory.path)).stdout, `${VERSION}\n`);
  });

  it('leave out what only builds', async () => {
    const manifest = JSON.parse(await readFile(join(app ?? '', 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
      devDependencies: Record<string, string>;
    };
    const isThere = async (name: string): Promise<boolean> =>
      stat(join(app ?? '', 'node_modules', name)).then(
        () => true,
        () => false,
      );
    for (const name of Object.keys(manifest.dependencies)) assert.ok(await isThere(name), name);
    for (const name of ['typescript', 'eslint', 'knip', '@tensorflow/tfjs-core', 'preact'])
      assert.ok(name in manifest.devDependencies && !(await isThere(name)), name);
    const bin = join(app ?? '', 'node_modules', 'onnxruntime-node', 'bin');
    const { stdout } = await run('find', [bin, '-name', '*.node'], directory.path);
    assert.ok(stdout.trim().endsWith(`/linux/${process.arch}/onnxruntime_binding.node`), stdout);
    assert.equal(stdout.trim().split('\n').length, 1);
  });

  it('give peers that found, join, report, are healthy and end', async () => {
    const start = async (name: string, ...args: string[]): Promise<CommandLine> => {
      const cwd = join(directory.path, name);
      await mkdir(cwd);
      const peer = new CommandLine(args, { command: [command ?? ''], cwd });
      started.push(peer);
      return peer;
    };
    const data = (office: string): string[] => ['--data', join(OFFICES, `${office}.jsonl`)];
    const founder = await start('founder', 'start', ...RUN, ...data('clinic'));
    const { address } = await founder.facts();
    const joiner = await start('joiner', 'join', address, ...JOIN, ...data('law-office'));
    await joiner.status('an update of the other', ({ peers }) =>
      peers.some(({ updatesAccepted }) => updatesAccepted > 0),
    );
    const { stdout } = await run(command ?? '', ['status'], join(directory.path, 'joiner'));
    assert.match(stdout, /tiny-base/);
    const health = stages()[1]?.find(({ name }) => name === 'HEALTHCHECK')?.value ?? '';
    const [, script, which] = checkSchema.parse(JSON.parse(/CMD (\[.*\])/.exec(health)?.[1] ?? ''));
    const check = join(dirname(app ?? ''), script);
    const peer = join(directory.path, 'founder', 'murmurate-peer');
    await run(process.execPath, [check, which, peer], directory.path);
    for (const process of started) process.kill('SIGTERM');
    for (const process of started) assert.equal(await process.ended(), 0, process.output());
  });
});
