/** The house rules that a program can check: who may import whom, sizes, banned calls, dead links. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';

/** This file runs from dist/test/. */
const root = path.resolve(import.meta.dirname, '../..');
const tracked = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).split('\n');
const generated = new Set(['protocol/wire/messages.ts', 'node/engine/onnx/onnx.ts']);
const sources = tracked.filter((file) => /\.tsx?$/.test(file) && existsSync(path.join(root, file)));
const own = sources.filter((file) => !generated.has(file));
const text = (file: string): string => readFileSync(path.join(root, file), 'utf8');

/** Folder or file -> what it may import besides itself; the longest matching key counts. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  'node/interfaces.ts': ['protocol'],
  'node/moments.ts': ['node/interfaces.ts'],
  'node/errors.ts': [],
  'node/printable.ts': [],
  'node/private-file.ts': ['node/files.ts', 'node/errors.ts'],
  'node/files.ts': [],
  'node/json-file.ts': ['node/errors.ts', 'node/printable.ts'],
  'node/process-owner.ts': ['node/files.ts'],
  'node/engine': [],
  'node/model': [
    'node/files.ts',
    'node/process-owner.ts',
    'node/engine',
    'protocol',
    'node/errors.ts',
    'node/json-file.ts',
  ],
  'node/data': [
    'node/files.ts',
    'node/model',
    'protocol',
    'node/errors.ts',
    'node/json-file.ts',
    'node/printable.ts',
  ],
  'node/hub': ['node/files.ts', 'node/model', 'protocol', 'node/errors.ts', 'node/version.ts'],
  'node/train': [
    'node/model',
    'node/data',
    'node/engine',
    'node/interfaces.ts',
    'node/errors.ts',
    'protocol',
  ],
  'node/peer.ts': ['node/peer', 'protocol', 'node/interfaces.ts'],
  'node/token-bucket.ts': ['node/interfaces.ts'],
  'node/peer': ['protocol', 'node/interfaces.ts', 'node/token-bucket.ts'],
  'node/net': [
    'node/files.ts',
    'node/private-file.ts',
    'protocol',
    'node/interfaces.ts',
    'node/errors.ts',
    'node/clock.ts',
    'node/token-bucket.ts',
  ],
  'node/store': [
    'node/files.ts',
    'node/private-file.ts',
    'node/process-owner.ts',
    'protocol',
    'node/interfaces.ts',
    'node/errors.ts',
  ],
  // A simulated swarm, and what its peers train on.
  'node/sim': [
    'node/peer.ts',
    // Whom to dial is decided without libp2p, so that the simulator dials by the same rule.
    'node/net/candidates.ts',
    'node/net/dial-rule.ts',
    'node/train',
    'node/model',
    'node/data',
    'node/engine',
    'node/interfaces.ts',
    'node/moments.ts',
    'node/errors.ts',
    'protocol',
  ],
  'node/status.ts': ['protocol', 'node/interfaces.ts', 'node/peer'],
  'node/history.ts': ['node/status.ts'],
  'node/http': [
    'protocol',
    'node/interfaces.ts',
    'node/errors.ts',
    'node/status.ts',
    'node/history.ts',
    'node/version.ts',
  ],
  // For the browser: types alone come from elsewhere.
  'node/http/page': ['node/status.ts', 'node/history.ts', 'protocol/errors.ts'],
  'node/clock.ts': ['node/interfaces.ts'],
  'node/log.ts': ['node/interfaces.ts', 'node/errors.ts', 'node/printable.ts'],
  'node/config.ts': ['node/errors.ts', 'protocol'],
  node: ['node', 'protocol', 'bootstrap'],
  bootstrap: ['node/files.ts', 'node/net', 'node/interfaces.ts', 'node/errors.ts', 'protocol'],
  'test/sim': [
    'node/sim',
    'node/peer',
    'node/interfaces.ts',
    // What a simulated peer has spent of its privacy.
    'node/train',
    'protocol',
    'test/support',
    'test/compliance',
  ],
  test: ['node', 'protocol', 'bootstrap', 'test', 'examples'],
  bench: ['node', 'protocol', 'test/support'],
  examples: ['node', 'protocol'],
  deploy: [],
};

/** Whole folders, and one file, whose import of libp2p is the point of them. */
const LIBP2P_HOMES = [
  ...['node/net/', 'bootstrap/', 'test/net/', 'test/netns/', 'test/unit/net/'],
  'test/fuzz/stream-targets.ts',
];

/** Calls that have one home each: time, randomness, the console. */
const HOMES: readonly { pattern: RegExp; allowed: RegExp; what: string }[] = [
  {
    pattern: /\bMath\.(random|exp|log|pow|tanh|sin|cos)\(|\bDate\.now\(|\bsetTimeout\(/,
    allowed: /^(?!protocol\/)/,
    what: 'protocol/ must give the same bits on every machine',
  },
  {
    pattern: /\bMath\.random\(|\bDate\.now\(|\bsetTimeout\(|\bsetInterval\(/,
    allowed: /^(?!node\/peer)/,
    what: 'peer.ts takes time from Clock and randomness from Prng',
  },
  {
    pattern: /\b(TODO|FIXME|XXX)\b/,
    allowed: /^test\/tidy\.test\.ts$/,
    what: 'unfinished work belongs into an issue',
  },
];

function importsOf(file: string): string[] {
  const found = text(file).matchAll(
    /^(?:import|export)\s[^;]*?from '([^']+)';|import\('([^']+)'\)/gms,
  );
  return [...found].map((match) => match[1] ?? match[2] ?? '');
}

/** The source file that `name` means in an import of `file`. */
function targetOf(file: string, name: string): string {
  const target = path.join(path.dirname(file), name).replace(/\.js$/, '.ts');
  return sources.includes(target) ? target : target.replace(/\.ts$/, '.tsx');
}

function isWithin(file: string, place: string): boolean {
  return file === place || file.startsWith(`${place}/`);
}

describe('the house rules', () => {
  it('imports follow the arrows of ARCHITECTURE.md', () => {
    const wrong: string[] = [];
    for (const file of sources) {
      const home = Object.keys(MAY_IMPORT)
        .filter((place) => isWithin(file, place))
        .sort((a, b) => b.length - a.length)[0];
      assert.ok(home, `${file} lies outside every known room`);
      for (const name of importsOf(file).filter((specifier) => specifier.startsWith('.'))) {
        const target = targetOf(file, name);
        const allowed = [home, ...(MAY_IMPORT[home] ?? [])];
        if (!allowed.some((place) => isWithin(target, place))) wrong.push(`${file} -> ${target}`);
      }
    }
    assert.deepEqual(wrong, []);
  });

  it('only node/net and bootstrap know libp2p', () => {
    const wrong = sources.filter(
      (file) =>
        !LIBP2P_HOMES.some((home) => file.startsWith(home)) &&
        importsOf(file).some((name) => /^(@?libp2p|@chainsafe)(\/|$)/.test(name)),
    );
    assert.deepEqual(
      wrong.filter((file) => !file.startsWith('test/compliance/')),
      [],
    );
  });

  it('protocol imports node:crypto and the encoder runtime only', () => {
    const known =
      /^(\.|node:crypto$|multiformats\/|protons-runtime$|uint8arraylist$|uint8arrays\/)/;
    const wrong = sources
      .filter((file) => file.startsWith('protocol/'))
      .flatMap((file) =>
        importsOf(file)
          .filter((name) => !known.test(name))
          .map((name) => `${file}: ${name}`),
      );
    assert.deepEqual(wrong, []);
  });

  it('every message is decoded through the guard of the wire format', () => {
    const around = /decodeMessage|streamMessage|\.codec\(/;
    // The guard, what puts it in, and this test.
    const allowed = ['protocol/wire/guard.ts', 'test/wire/generate.ts', 'test/tidy.test.ts'];
    const wrong = own.filter((file) => !allowed.includes(file) && around.test(text(file)));
    assert.deepEqual(wrong, []);
    // What protons generates would decode by itself: npm run generate:wire puts the guard in.
    const generatedCode = text('protocol/wire/messages.ts');
    assert.doesNotMatch(generatedCode, /decodeMessage|streamMessage/);
    const decoders = [...generatedCode.matchAll(/function decode \(.*\n(.*)/g)];
    assert.ok(decoders.length > 40);
    for (const [, body] of decoders) assert.match(body ?? '', /return decodeBounded\(/);
  });

  it('files stay small: none over 500 lines, nine in ten under 400, half under 150', () => {
    const sizes = own
      .filter((file) => !file.startsWith('test/'))
      .map((file) => ({ file, lines: text(file).split('\n').length - 1 }))
      .sort((a, b) => a.lines - b.lines);
    const at = (share: number): number => sizes[Math.floor(share * (sizes.length - 1))]?.lines ?? 0;
    assert.deepEqual(
      sizes.filter(({ lines }) => lines > 500),
      [],
    );
    assert.ok(at(0.9) <= 400, `p90 is ${at(0.9)}`);
    assert.ok(at(0.5) <= 150, `p50 is ${at(0.5)}`);
  });

  it('every source file says in its first lines what it is for', () => {
    const silent = own.filter(
      (file) => !file.endsWith('.test.ts') && !/^(#![^\n]*\n)?(\/\*\*|\/\/)/.test(text(file)),
    );
    assert.deepEqual(silent, []);
  });

  it('time, randomness and unfinished work stay where they belong', () => {
    for (const { pattern, allowed, what } of HOMES) {
      const wrong = own.filter((file) => !allowed.test(file) && pattern.test(text(file)));
      assert.deepEqual(wrong, [], what);
    }
  });

  it('every source file is imported, run or a test: nothing is dead', () => {
    const imported = new Set(
      sources.flatMap((file) => importsOf(file).map((name) => targetOf(file, name))),
    );
    // A program (a worker, a script) is started by name instead.
    const texts = tracked.filter(
      (file) => /\.(tsx?|json|md)$/.test(file) && existsSync(path.join(root, file)),
    );
    const isNamed = (file: string): boolean =>
      texts.some(
        (other) =>
          other !== file && text(other).includes(`${path.basename(file, path.extname(file))}.`),
      );
    const dead = own.filter(
      (file) => !/\.(test|d)\.ts$/.test(file) && !imported.has(file) && !isNamed(file),
    );
    assert.deepEqual(dead, []);
  });

  it('the documents link to files that exist', () => {
    const broken = tracked
      .filter((file) => file.endsWith('.md') && existsSync(path.join(root, file)))
      .flatMap((file) =>
        [...text(file).matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)]
          .map((match) => match[1] ?? '')
          .filter((link) => !existsSync(path.join(root, path.dirname(file), link)))
          .map((link) => `${file}: ${link}`),
      );
    assert.deepEqual(broken, []);
  });

  it('the lockfile names no registry host, and no file names a path of one machine', () => {
    assert.doesNotMatch(text('package-lock.json'), /"resolved": *"https?:/);
    const machine = /(^|[^A-Za-z0-9_./-])\/(root|home\/\w+)\//;
    const wrong = tracked.filter(
      (file) =>
        /\.(ts|js|json|md|py|sh)$/.test(file) &&
        existsSync(path.join(root, file)) &&
        machine.test(text(file)),
    );
    assert.deepEqual(wrong, []);
  });

  it('prose in Markdown wraps at 100 columns', () => {
    const wrong: string[] = [];
    for (const file of tracked.filter((name) => /\.md$/.test(name) && name !== 'docs/CLI.md')) {
      if (!existsSync(path.join(root, file))) continue;
      let isCode = false;
      for (const [i, line] of text(file).split('\n').entries()) {
        if (/^\s*```/.test(line)) isCode = !isCode;
        if (isCode || line.length <= 100 || /^\s*[|#<]|^ {4}/.test(line)) continue;
        // A line may be longer only where it cannot be broken: spaces of code do not count.
        const breakable = line.replaceAll(/`[^`]*`/g, (code) => 'x'.repeat(code.length));
        if (/^\s*(?:[-*]|\d+\.)?\s*\S+\s/.test(breakable.slice(0, 101)))
          wrong.push(`${file}:${i + 1}`);
      }
    }
    assert.deepEqual(wrong, []);
  });

  it('ARCHITECTURE.md names every folder of source code', () => {
    const map = text('ARCHITECTURE.md');
    const folders = new Set(
      own.map((file) => path.dirname(file)).filter((dir) => dir.split('/').length <= 2),
    );
    assert.deepEqual(
      [...folders].filter((folder) => !map.includes(`${folder.replace(/^\.$/, '')}/`)),
      [],
    );
  });
});
