/**
 * The memory that a process and its descendants hold, sampled while they work: anonymous memory (RssAnon), and pages of
 * files. Of those, weights count once however often they are mapped (Pss), where VmHWM would count each mapping; code
 * counts in full (Rss), because how many other processes share it says nothing about this one. A thread samples, for the
 * main thread may be busy when most is held. Linux only.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

/** In bytes. */
export interface Resident {
  /** Anonymous memory of the root process, and of all that it started. */
  rootAnonymous: number;
  childAnonymous: number;
  /** Pages of files, code included, of the same two. */
  rootFiles: number;
  childFiles: number;
  /** Of childFiles those that are not code: weights. */
  childWeights: number;
}

/** Between two samples of anonymous memory, in ms; pages of files take a walk through all page tables and come less often. */
const SAMPLE_MS = 10;
const FILES_EVERY = 20;

export function total(one: Resident): number {
  return one.rootAnonymous + one.childAnonymous + one.rootFiles + one.childFiles;
}

/** Watches the process `root` and its descendants until end(). */
export class ResidentWatch {
  readonly #worker: Worker;

  constructor(root: number) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: { root } });
  }

  /** The most that was held at one moment since the last call. */
  async peak(): Promise<Resident> {
    const answer = new Promise<Resident>((resolve, reject) => {
      this.#worker.once('message', resolve);
      this.#worker.once('error', reject);
    });
    this.#worker.postMessage('peak');
    return await answer;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // The process ended meanwhile.
    return '';
  }
}

function kilobytes(text: string, field: string): number {
  return 1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1] ?? 0);
}

/** All descendants of `pid`. */
function descendants(pid: number): number[] {
  const own = read(`/proc/${pid}/task/${pid}/children`).trim();
  if (own === '') return [];
  return own
    .split(' ')
    .map(Number)
    .flatMap((child) => [child, ...descendants(child)]);
}

function sum(pids: readonly number[], of: (pid: number) => number): number {
  return pids.reduce((bytes, pid) => bytes + of(pid), 0);
}

const anonymous = (pid: number): number => kilobytes(read(`/proc/${pid}/status`), 'RssAnon');

interface FilePages {
  code: number;
  weights: number;
}

/** A mapping of a file in /proc/PID/smaps: permissions, path, and what is said of it. */
const FILE_MAPPING = /^[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ [1-9]\d* +(\/.*)\n((?:[A-Z]\w+:.*\n)+)/gm;

function filePages(pid: number): FilePages {
  const mappings = [...read(`/proc/${pid}/smaps`).matchAll(FILE_MAPPING)].map(
    ([, permissions = '', path = '', facts = '']) => ({
      isExecutable: permissions.includes('x'),
      path,
      // Pages that the process has written to are anonymous.
      rss: kilobytes(facts, 'Rss') - kilobytes(facts, 'Anonymous'),
      pss: Math.max(0, kilobytes(facts, 'Pss') - kilobytes(facts, 'Anonymous')),
    }),
  );
  const code = new Set(mappings.filter((one) => one.isExecutable).map(({ path }) => path));
  const pages = { code: 0, weights: 0 };
  for (const { path, rss, pss } of mappings) {
    if (code.has(path)) pages.code += rss;
    else pages.weights += pss;
  }
  return pages;
}

async function sample(root: number): Promise<never> {
  const none = {
    ...{ rootAnonymous: 0, childAnonymous: 0, rootFiles: 0, childFiles: 0 },
    childWeights: 0,
  };
  let peak: Resident = none;
  parentPort?.on('message', () => {
    parentPort?.postMessage(peak);
    peak = none;
  });
  let [rootFiles, childFiles, childWeights] = [0, 0, 0];
  for (let count = 0; ; count++) {
    const children = descendants(root);
    if (count % FILES_EVERY === 0) {
      const own = filePages(root);
      const theirs = children.map(filePages);
      rootFiles = own.code + own.weights;
      childWeights = theirs.reduce((bytes, { weights }) => bytes + weights, 0);
      childFiles = theirs.reduce((bytes, { code }) => bytes + code, childWeights);
    }
    const now: Resident = {
      rootAnonymous: anonymous(root),
      childAnonymous: sum(children, anonymous),
      ...{ rootFiles, childFiles, childWeights },
    };
    if (total(now) > total(peak)) peak = now;
    await delay(SAMPLE_MS);
  }
}

if (!isMainThread) await sample((workerData as { root: number }).root);
