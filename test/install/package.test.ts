/**
 * The package as a stranger gets it: packed, installed into an empty project without install scripts, compiled against
 * and run. Needs the npm registry, or npm's cache of it.
 */
import assert from 'node:assert/strict';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { posix, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { z } from 'zod';
import { PACKAGE_DIRECTORY, VERSION } from '../../node/version.js';
import { makeDirectory } from '../net/harness.js';
import { npm, run } from './npm.js';

/** Model 9 MB, dependencies 15 MB. */
const PACKED_BYTES_MAX = 32 * 1024 * 1024;

/** Everything that may be in it beside the dependencies. */
const EXPECTED =
  /^(LICENSE|README\.md|package\.json|docs\/(guides\/)?[\w-]+\.md|docs\/images\/[\w-]+\.png|docs\/grafana-dashboard\.json|models\/tiny-base\/[\w.]+|dist\/page\/[\w-]+\.(html|css|js|svg)|dist\/(node|protocol|bootstrap)\/.*\.js|dist\/(node|protocol)\/.*\.d\.ts)$/;

/** What the published types may import beside each other: a dependency and Node. */
const TYPES_FROM = /^(\.{1,2}\/|node:|zod$)/;

const IMPORTS =
  /^(?:import|export)[^;'"]*\sfrom\s['"]([^'"]+)['"]|^import ['"]([^'"]+)['"]|import\(['"]([^'"]+)['"]\)/gm;

/** Removes what ONNX Runtime brings for other machines: docs/LIBRARY.md. */
const SLIM = /^find node_modules\/onnxruntime-node\/bin.*$/m;

const manifestSchema = z.object({
  bin: z.object({ murmurate: z.string() }),
  dependencies: z.record(z.string(), z.string()),
  bundleDependencies: z.array(z.string()),
  devDependencies: z.record(z.string(), z.string()),
  peerDependencies: z.record(z.string(), z.string()),
  peerDependenciesMeta: z.record(z.string(), z.object({ optional: z.literal(true) })),
});
const packedSchema = z.array(
  z.object({
    filename: z.string(),
    size: z.number(),
    files: z.array(z.object({ path: z.string() })),
  }),
);

/** A type error in each line: the declarations say what the options are. */
const WRONG = `import { Peer } from 'murmurate';
// @ts-expect-error: a number
void Peer.start({ epochs: 'three' });
// @ts-expect-error: no such option
void Peer.start({ rankk: 3 });
// @ts-expect-error: an address first
void Peer.join({ data: ['x.txt'] });
`;

const manifest = manifestSchema.parse(
  JSON.parse(await readFile(join(PACKAGE_DIRECTORY, 'package.json'), 'utf8')),
);
const library = await readFile(join(PACKAGE_DIRECTORY, 'docs', 'LIBRARY.md'), 'utf8');

/** The declarations that a program reads when it imports the package, as paths within it. */
async function publicTypes(root: string): Promise<string[]> {
  const found = new Set<string>();
  const next = ['dist/node/index.d.ts'];
  for (let file = next.pop(); file !== undefined; file = next.pop()) {
    if (found.has(file)) continue;
    found.add(file);
    const text = await readFile(join(root, file), 'utf8');
    for (const [, from, bare, inline] of text.matchAll(IMPORTS)) {
      const name = from ?? bare ?? inline ?? '';
      assert.match(name, TYPES_FROM, file);
      if (name.startsWith('.'))
        next.push(posix.join(posix.dirname(file), name).replace(/\.js$/, '.d.ts'));
    }
  }
  return [...found].sort();
}

describe('package.json', () => {
  it('names each package in one list, but optional peers, which the tests have too', () => {
    const { dependencies, devDependencies, peerDependencies, peerDependenciesMeta } = manifest;
    const names = [...Object.keys(dependencies), ...Object.keys(devDependencies)];
    assert.equal(new Set(names).size, names.length);
    assert.deepEqual(
      Object.keys(peerDependencies).filter((name) => name in dependencies),
      [],
    );
    assert.deepEqual(Object.keys(peerDependenciesMeta), Object.keys(peerDependencies));
  });

  it('packs every dependency but ONNX Runtime, which is 290 MB', () => {
    const names = Object.keys(manifest.dependencies);
    assert.deepEqual(
      manifest.bundleDependencies,
      names.filter((name) => name !== 'onnxruntime-node'),
    );
  });
});

describe('the package', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let [app, installed, archive]: string[] = [];
  let paths: string[] = [];
  before(async () => {
    directory = await makeDirectory();
    app = join(directory.path, 'app');
    installed = join(app, 'node_modules', 'murmurate');
    await mkdir(app);
    await writeFile(join(app, 'package.json'), '{"private":true,"type":"module"}');
    const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', directory.path];
    const { stdout } = await npm(PACKAGE_DIRECTORY, ...args);
    const [pack] = packedSchema.parse(JSON.parse(stdout));
    assert.ok(pack);
    assert.ok(pack.size < PACKED_BYTES_MAX, `${pack.size} bytes`);
    paths = pack.files.map(({ path }) => path);
    archive = join(directory.path, pack.filename);
  });
  after(() => directory.remove());
  const inApp = (program: string, ...args: string[]): Promise<{ stdout: string; stderr: string }> =>
    run(program, args, app ?? '');
  const at = (name: string): string => join(app ?? '', name);

  it('holds what is needed to run, and no test, map or recipe', () => {
    const own = paths.filter((path) => !path.startsWith('node_modules/'));
    assert.deepEqual(
      own.filter((path) => !EXPECTED.test(path)),
      [],
    );
    for (const needed of [
      'LICENSE',
      'dist/node/main.js',
      'dist/node/train/worker.js',
      'dist/page/index.html',
    ]) {
      assert.ok(own.includes(needed), needed);
    }
  });

  it('installs without a script and without a warning', async () => {
    const { stdout, stderr } = await npm(app ?? '', 'install', '--ignore-scripts', archive ?? '');
    assert.doesNotMatch(stdout + stderr, /warn|deprecated|EBADENGINE/i);
    const scripts: string[] = [];
    for (const path of paths.filter((name) => /node_modules\/[^/]+\/package\.json$/.test(name))) {
      const text = await readFile(join(installed ?? '', path), 'utf8');
      if (/"(pre|post)?install"\s*:/.test(text)) scripts.push(path);
    }
    assert.deepEqual(scripts, []);
  });

  it('runs the command line with the embedded model', async () => {
    const version = await inApp('npx', 'murmurate', '--version');
    assert.deepEqual(version, { stdout: `${VERSION}\n`, stderr: '' });
    const words = ['generate', '--base', '--max-tokens', '4', 'Where is it?'];
    assert.ok((await inApp('npx', 'murmurate', ...words)).stdout.length > 0);
  });

  it('says what to install for a device that is an optional peer', async () => {
    const words = ['generate', '--base', '--device', 'tfjs', 'Where is it?'];
    await assert.rejects(
      inApp('npx', 'murmurate', ...words),
      /tfjs-core is not installed.*npm install @tensorflow\/tfjs-backend-wasm/s,
    );
  });

  it('runs without the parts of ONNX Runtime that are for other machines', async () => {
    const [command = ''] = SLIM.exec(library) ?? [];
    await inApp('sh', '-c', command);
    const bin = join('node_modules', 'onnxruntime-node', 'bin');
    const { stdout } = await inApp('find', bin, '-name', '*.node');
    assert.deepEqual(
      stdout
        .trim()
        .split('\n')
        .map((file) => file.split('/').slice(-3, -1)),
      [[process.platform, process.arch]],
    );
    const { stdout: size } = await inApp('du', '-sm', 'node_modules');
    assert.ok(parseInt(size) < 200, size);
  });

  it('holds the types of its interface, and no others', async () => {
    assert.deepEqual(
      paths.filter((path) => path.endsWith('.d.ts') && path.startsWith('dist/')).sort(),
      await publicTypes(installed ?? ''),
    );
  });

  it('type-checks the example of docs/LIBRARY.md and refuses wrong options, all libraries checked', async () => {
    const [, oldest = '', newest = ''] = /TypeScript (\d\.\d) to (\d\.\d)/.exec(library) ?? [];
    const compilers = [`oldest@npm:typescript@${oldest}`, `newest@npm:typescript@${newest}`];
    const types = '@types/node@20';
    await npm(app ?? '', 'install', '--ignore-scripts', '--save-dev', types, ...compilers);
    await copyFile(join(PACKAGE_DIRECTORY, 'examples', 'library', 'train.ts'), at('train.ts'));
    await writeFile(at('wrong.ts'), WRONG);
    const compilerOptions = {
      ...{ module: 'NodeNext', target: 'ES2022', strict: true, types: ['node'] },
      skipLibCheck: false,
    };
    const files = ['train.ts', 'wrong.ts'];
    await writeFile(at('tsconfig.json'), JSON.stringify({ compilerOptions, files }));
    for (const name of ['oldest', 'newest'])
      await inApp(process.execPath, join('node_modules', name, 'bin', 'tsc'));
  });

  it('runs the example', async () => {
    const data = join(PACKAGE_DIRECTORY, 'examples', 'three-offices', 'data', 'clinic.jsonl');
    const { stdout } = await inApp(process.execPath, 'train.js', data);
    assert.match(
      stdout,
      /^others take part with: murmurate join \/ip4\/\S+\/tcp\/\d+\/p2p\/12D3KooW/,
    );
    const losses = [...stdout.matchAll(/^epoch (\d) of 3: held-out loss ([\d.]+|null)$/gm)];
    assert.deepEqual(
      losses.map(([, epoch]) => epoch),
      ['1', '2', '3'],
    );
    assert.ok(Number(losses[2]?.[2]) < 4, stdout);
    assert.match(await readFile(join(at('my-adapter'), 'adapter_config.json'), 'utf8'), /"LORA"/);
  });
});
