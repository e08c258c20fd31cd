/** The package as it is published: what is in it, and that command line and library work from it alone. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { z } from 'zod';
import { PACKAGE_DIRECTORY, VERSION } from '../../node/version.js';
import { makeDirectory } from './harness.js';

const TIMEOUT_MS = 120_000;
const run = promisify(execFile);

/** Packed, it is mostly the model (9 MB). */
const PACKED_BYTES_MAX = 12 * 1024 * 1024;

/** Everything that may be in it. */
const EXPECTED =
  /^(LICENSE|README\.md|package\.json|docs\/(guides\/)?[\w-]+\.md|docs\/images\/[\w-]+\.png|docs\/grafana-dashboard\.json|models\/tiny-base\/[\w.]+|dist\/page\/[\w-]+\.(html|css|js|svg)|dist\/(node|protocol|bootstrap)\/.*\.(js|d\.ts))$/;

const packed = z.array(
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

describe('the package', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  let [app, installed]: string[] = [];
  before(async () => {
    directory = await makeDirectory();
    app = join(directory.path, 'app');
    installed = join(app, 'node_modules', 'murmurate');
    await mkdir(join(app, 'node_modules', '@types'), { recursive: true });
    await mkdir(installed);
  });
  after(() => directory.remove());
  const inApp = (...args: string[]): Promise<{ stdout: string }> =>
    run(process.execPath, args, { cwd: app, timeout: TIMEOUT_MS });

  it('holds what is needed to run, and no test, map or recipe', async () => {
    const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', directory.path];
    const { stdout } = await run('npm', args, { cwd: PACKAGE_DIRECTORY, timeout: TIMEOUT_MS });
    const [pack] = packed.parse(JSON.parse(stdout));
    assert.ok(pack);
    const files = pack.files.map(({ path }) => path);
    assert.deepEqual(
      files.filter((file) => !EXPECTED.test(file)),
      [],
    );
    for (const needed of [
      'LICENSE',
      'dist/node/main.js',
      'dist/node/index.d.ts',
      'dist/node/train/worker.js',
      'dist/page/index.html',
    ]) {
      assert.ok(files.includes(needed), needed);
    }
    assert.ok(pack.size < PACKED_BYTES_MAX, `${pack.size} bytes`);
    const archive = join(directory.path, pack.filename);
    await run('tar', ['-xzf', archive, '--strip-components=1', '-C', installed ?? '']);
    // Its dependencies are those of this checkout, as the lockfile has them.
    const modules = join(PACKAGE_DIRECTORY, 'node_modules');
    await symlink(modules, join(installed ?? '', 'node_modules'));
    await symlink(
      join(modules, '@types', 'node'),
      join(app ?? '', 'node_modules', '@types', 'node'),
    );
  });

  it('runs the command line with the embedded model', async () => {
    const manifest = JSON.parse(await readFile(join(installed ?? '', 'package.json'), 'utf8')) as {
      bin: { murmurate: string };
    };
    const bin = join(installed ?? '', manifest.bin.murmurate);
    assert.equal((await inApp(bin, '--version')).stdout, `${VERSION}\n`);
    const words = await inApp(bin, 'generate', '--base', '--max-tokens', '4', 'Where is it?');
    assert.ok(words.stdout.length > 0);
  });

  it('type-checks and runs the example of docs/LIBRARY.md, and refuses wrong options by type', async () => {
    const at = (name: string): string => join(app ?? '', name);
    await copyFile(join(PACKAGE_DIRECTORY, 'examples', 'library', 'train.ts'), at('train.ts'));
    await writeFile(at('wrong.ts'), WRONG);
    await writeFile(at('package.json'), '{"type":"module"}');
    const compilerOptions = {
      module: 'NodeNext',
      target: 'ES2023',
      strict: true,
      types: ['node'],
      skipLibCheck: true,
    };
    const files = ['train.ts', 'wrong.ts'];
    await writeFile(at('tsconfig.json'), JSON.stringify({ compilerOptions, files }));
    await inApp(join(PACKAGE_DIRECTORY, 'node_modules', 'typescript', 'bin', 'tsc'));
    const data = join(PACKAGE_DIRECTORY, 'examples', 'three-offices', 'data', 'clinic.jsonl');
    const { stdout } = await inApp('train.js', data);
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
    assert.match(
      await readFile(join(app ?? '', 'my-adapter', 'adapter_config.json'), 'utf8'),
      /"LORA"/,
    );
  });
});
