/** start --from: the adapter that a run begins from; and how a peer that joins such a run comes by it. */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { SystemClock } from '../clock.js';
import type { Origin } from '../config/sources.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import {
  InitialSource,
  initialBlob,
  initialRootOf,
  withInitial,
  writeInitial,
} from '../initial-adapter.js';
import type { ModelConfig } from '../model/config.js';
import { checkAdapter, loraModules } from '../model/lora.js';
import { readPeftAdapter } from '../model/peft.js';
import { MemberStreams, type MemberStreamsInit } from '../net/member-streams.js';
import { ModelFetch } from '../peer/model-fetch.js';
import type { SharedModelSource } from '../compose.js';
import { flagOf } from '../config.js';
import { adapterSha256, type AdapterSpec } from '../../protocol/adapter.js';
import type { Run } from '../../protocol/manifest.js';
import { Prng } from '../../protocol/prng.js';
import type { VerbIo } from './verb.js';

/** Pauses between rounds of asking double from the first to the last, in ms. */
const PAUSE_MS_MIN = 1_000;
const PAUSE_MS_MAX = 30_000;
/** Names of layers that a manifest can list one by one. */
const TARGETS_MAX = 64;

/** What the adapter decides of a run. */
export type ImportedAdapter = Pick<AdapterSpec, 'rank' | 'alpha' | 'targetModules' | 'modules'> & {
  theta0: Float32Array;
  initialRoot: string;
};

/**
 * The adapter in `dir` for a model of this config. Throws UserError: an adapter that cannot be used or is another
 * model's; options that the adapter decides (wrong usage).
 */
export async function importAdapter(
  dir: string,
  config: ModelConfig,
  origins: ReadonlyMap<string, Origin>,
): Promise<ImportedAdapter> {
  for (const name of ['rank', 'alpha', 'targetModules', 'seed']) {
    if (!origins.has(name)) continue;
    throw new UserError(
      `${flagOf(name)} and --from exclude each other: the adapter in ${dir} decides it; leave one of them out`,
      EXIT_USAGE,
    );
  }
  const found = await readPeftAdapter(dir);
  checkAdapter(config, found);
  const names = new Set(found.modules.map(({ name }) => name));
  const targets = [...new Set([...names].map((name) => name.slice(name.lastIndexOf('.') + 1)))];
  // In the order of the model, whatever that of the file.
  const modules = loraModules(config, targets).filter(({ name }) => names.has(name));
  const isAll = modules.length === loraModules(config, targets).length;
  const { rank, alpha, theta } = await readPeftAdapter(dir, { ...found, modules });
  if (!theta.every(Number.isFinite)) {
    throw new UserError(`${dir} holds NaN or infinity: no run can begin from it`);
  }
  return {
    ...{ rank, alpha, modules, theta0: theta, initialRoot: initialRootOf(theta) },
    // PEFT takes a layer's whole name as well, where only some layers have an adapter.
    targetModules: isAll || names.size > TARGETS_MAX ? targets : [...names],
  };
}

/** Throws UserError (wrong usage) where a run that is resumed began from something else than --from says. */
export async function checkFrom(from: string | null, run: Run, dir: string): Promise<void> {
  if (from === null) return;
  const { adapter, name } = run.manifest;
  const { theta } = await readPeftAdapter(from, adapter);
  if (adapterSha256(theta) === adapter.initialSha256) return;
  throw new UserError(
    `${dir} holds the run "${name}", which did not begin from ${from}; leave --from out to resume it, or start a new run in another --dir`,
    EXIT_USAGE,
  );
}

/** What a peer gives to members: theta0 too, where the run begins from an adapter. */
export function sharedWith(run: Run, model: SharedModelSource | null): SharedModelSource | null {
  const { theta0 } = run.manifest.adapter;
  return theta0 === undefined ? model : new InitialSource(theta0, model);
}

export interface InitialFromMembers extends MemberStreamsInit {
  /** Of the data directory. */
  dir: string;
  /** Give up after so long, in seconds; null: never. */
  timeout: number | null;
  io: Pick<VerbIo, 'stderr' | 'signal'>;
}

/**
 * The run with its theta0, which is fetched from members where it is not here, and kept. Throws UserError when nobody gives
 * it in time, `signal.reason`.
 */
export async function initialFromMembers(init: InitialFromMembers): Promise<Run> {
  const { run, io, dir } = init;
  const blob = initialBlob(run);
  if (blob === null || run.manifest.adapter.theta0 !== undefined) return run;
  const stop = new AbortController();
  const signal = AbortSignal.any([io.signal, stop.signal]);
  const members = new MemberStreams(init);
  const fetch = new ModelFetch(
    {
      ...{ transport: members, clock: new SystemClock(), runId: run.id },
      random: new Prng(randomBytes(32), 'initial'),
      onLie: (peerId: string) =>
        void io.stderr.write(`${peerId} sent something else than the adapter of the run\n`),
    },
    signal,
  );
  const startMs = performance.now();
  try {
    for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
      await members.ask(signal);
      for (const peerId of members.known) {
        if (fetch.isLiar(peerId) || !(await members.reach(peerId, signal))) continue;
        const bytes = await fetch.ask(peerId, blob);
        if (bytes === null) continue;
        const whole = withInitial(run, bytes, `what ${peerId} sent`);
        await writeInitial(dir, whole.manifest.adapter.theta0 ?? new Float32Array());
        return whole;
      }
      const problem = `no member gives the adapter that the run "${run.manifest.name}" begins from`;
      if (init.timeout !== null && performance.now() + pauseMs - startMs > init.timeout * 1000) {
        throw new UserError(`${problem}; gave up after ${init.timeout} s (--timeout)`);
      }
      io.stderr.write(`${problem}; asking again in ${pauseMs / 1000} s\n`);
      await delay(pauseMs, undefined, { signal });
    }
  } finally {
    stop.abort(new UserError('the fetching has ended'));
    await fetch.ended();
  }
}
