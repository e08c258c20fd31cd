/** The base model of a run from its members: who shares it is sought and fetched from until all of it is in the cache. */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { openBaseModel } from '../base-model.js';
import { SystemClock } from '../clock.js';
import { UserError } from '../errors.js';
import { cacheDirectoryOf, type Environment } from '../hub/endpoint.js';
import { MemberModelPlace, PartialModel } from '../hub/member-model.js';
import { diskInWords, waitingFor } from '../hub/words.js';
import { locked } from '../model/cache-room.js';
import { explainMismatch } from '../model/fingerprint.js';
import { MemberStreams, type MemberStreamsInit } from '../net/member-streams.js';
import { ModelFetch } from '../peer/model-fetch.js';
import type { BlobName } from '../../protocol/blob.js';
import { InvalidModelFilesError } from '../../protocol/errors.js';
import { decodeModelFiles, type ModelFile } from '../../protocol/model-files.js';
import { Prng } from '../../protocol/prng.js';
import { createBar, inMb } from './slow.js';
import type { VerbIo } from './verb.js';

/** Pauses between rounds of asking double from the first to the last, in ms. */
const PAUSE_MS_MIN = 1_000;
const PAUSE_MS_MAX = 30_000;

/** How often it is looked at how far the fetching is, in ms. */
const LOOK_MS = 500;

export interface MemberModelInit extends MemberStreamsInit {
  /** The catalogue that the run names. */
  files: BlobName;
  env: Environment;
  /** Give up when nothing has come for so long, in ms. */
  timeoutMs: number;
  io: Pick<VerbIo, 'stderr' | 'terminal' | 'signal'>;
}

/**
 * Directory of the run's model in the cache, fetched from members where it is not there; what it holds is the run's. Who
 * shares it, and that nobody does, is said on stderr.
 * Throws UserError (out of time, disk full, a catalogue or a model that is not what the run says), the signal's reason.
 */
export async function modelFromMembers(init: MemberModelInit): Promise<string> {
  const { run, files, env, io } = init;
  const place = new MemberModelPlace(cacheDirectoryOf(env), run.manifest.model, files);
  if (await place.isThere()) return place.dir;
  const stop = new AbortController();
  const signal = AbortSignal.any([io.signal, stop.signal]);
  const fetching = new MemberFetch(init, place, signal);
  const say = (sentence: string): void => void io.stderr.write(`${sentence}\n`);
  try {
    return await locked(place.lock, waitingFor(place.name), { signal, say }, async () => {
      // Another process may have brought it meanwhile.
      if (!(await place.isThere())) await fetching.run();
      return place.dir;
    });
  } catch (error) {
    io.signal.throwIfAborted();
    throw diskInWords(error, place.directory);
  } finally {
    stop.abort(new UserError('the fetching has ended'));
    await fetching.ended();
  }
}

class MemberFetch {
  readonly #init: MemberModelInit;
  readonly #place: MemberModelPlace;
  readonly #signal: AbortSignal;
  readonly #members: MemberStreams;
  readonly #fetch: ModelFetch;
  #catalogue: Uint8Array | null = null;
  /** When something last came, by performance.now(). */
  #progressMs = performance.now();
  /** Whether files are being read here, which may take long and is nobody's silence. */
  #isReading = false;
  #seeking: Promise<void> = Promise.resolve();

  constructor(init: MemberModelInit, place: MemberModelPlace, signal: AbortSignal) {
    this.#init = init;
    this.#place = place;
    this.#signal = signal;
    this.#members = new MemberStreams(init);
    const components = {
      transport: this.#members,
      clock: new SystemClock(),
      runId: init.run.id,
      random: new Prng(randomBytes(32), 'model'),
      onLie: (peerId: string) =>
        this.#say(`${peerId} sent something else than the model, and is asked for nothing more`),
    };
    this.#fetch = new ModelFetch(components, signal);
  }

  async run(): Promise<void> {
    this.#progressMs = performance.now();
    let fail: (error: unknown) => void = () => undefined;
    const failed = new Promise<never>((_, reject) => (fail = reject));
    this.#seeking = this.#seek().catch(fail);
    await Promise.race([this.#get(), failed]);
  }

  /** Resolves, after the signal has aborted, when nothing is under way any more. */
  async ended(): Promise<void> {
    await Promise.all([this.#seeking, this.#fetch.ended()]);
  }

  async #get(): Promise<void> {
    const files = this.#decode(await this.#awaitCatalogue());
    const partial = new PartialModel(this.#place, files, this.#signal);
    await this.#reading(partial.open());
    const { name } = this.#place;
    const before = partial.heldBytes;
    if (before > 0) this.#say(`${inMb(before)} MB of ${name} are here already, and were checked`);
    const bar = createBar(this.#init.io, `fetching ${name} from members, MB`);
    const filling = this.#fetch.fill(partial);
    const state = { isFilled: false };
    const settled = filling.finally(() => (state.isFilled = true)).catch(() => undefined);
    try {
      for (let seen = -1; !state.isFilled;) {
        const done = Math.min(partial.heldBytes + this.#fetch.bytesUnderWay, partial.totalBytes);
        if (done > seen) this.#progressMs = performance.now();
        seen = Math.max(seen, done);
        bar.update(inMb(seen), inMb(partial.totalBytes));
        await Promise.race([settled, delay(LOOK_MS)]);
      }
      await filling;
      bar.update(inMb(partial.totalBytes), inMb(partial.totalBytes));
    } finally {
      bar.stop();
    }
    await this.#accept(partial);
  }

  async #reading<T>(work: Promise<T>): Promise<T> {
    this.#isReading = true;
    try {
      return await work;
    } finally {
      this.#isReading = false;
      this.#progressMs = performance.now();
    }
  }

  async #awaitCatalogue(): Promise<Uint8Array> {
    for (;;) {
      this.#signal.throwIfAborted();
      if (this.#catalogue !== null) return this.#catalogue;
      await delay(LOOK_MS / 5, undefined, { signal: this.#signal });
    }
  }

  #decode(catalogue: Uint8Array): ModelFile[] {
    try {
      return decodeModelFiles(catalogue);
    } catch (cause) {
      if (!(cause instanceof InvalidModelFilesError)) throw cause;
      const { name } = this.#init.run.manifest;
      throw new UserError(
        `the run "${name}" names a list of model files that is none (${cause.message}): tell its founder`,
        undefined,
        { cause },
      );
    }
  }

  /** The parts are what the catalogue says; the run has the last word. */
  async #accept(partial: PartialModel): Promise<void> {
    const { manifest } = this.#init.run;
    const { fingerprint } = await this.#reading(openBaseModel(this.#place.partial));
    const [fault] = explainMismatch(manifest.model, fingerprint);
    if (fault !== undefined) {
      await partial.discard();
      throw new UserError(
        `the files that the run "${manifest.name}" names are not its own base model (${fault}): nothing was kept; tell its founder`,
      );
    }
    await partial.finish();
  }

  /** Asks for members and for the model, over and over, until the signal aborts. Rejects with UserError when out of time. */
  async #seek(): Promise<void> {
    const { timeoutMs } = this.#init;
    let seenMs = -1;
    for (let pauseMs = PAUSE_MS_MIN; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
      await this.#askAll();
      if (this.#signal.aborted) return;
      const isAlone = this.#fetch.donors.size === 0;
      // Who has the catalogue may have nothing else.
      const isComing = this.#isReading || (!isAlone && this.#progressMs > seenMs);
      seenMs = this.#progressMs;
      const silentMs = this.#isReading ? 0 : performance.now() - this.#progressMs;
      const problem = isAlone ? this.#nobody() : `nothing more of ${this.#place.name} came`;
      if (silentMs + (isComing ? 0 : pauseMs) > timeoutMs) {
        throw new UserError(`${problem}; gave up after ${timeoutMs / 1000} s (--timeout)`);
      }
      if (isComing) {
        await this.#whileDonors();
        pauseMs = PAUSE_MS_MIN / 2;
      } else {
        this.#say(`${problem}; asking again in ${pauseMs / 1000} s`);
        await delay(pauseMs, undefined, { signal: this.#signal }).catch(() => undefined);
      }
    }
  }

  /** Until the last donor is gone, and PAUSE_MS_MAX at most. */
  async #whileDonors(): Promise<void> {
    const endMs = performance.now() + PAUSE_MS_MAX;
    while (performance.now() < endMs && this.#fetch.donors.size > 0 && !this.#signal.aborted) {
      await delay(LOOK_MS, undefined, { signal: this.#signal }).catch(() => undefined);
    }
  }

  async #askAll(): Promise<void> {
    try {
      await this.#members.ask(this.#signal);
      const asked = this.#members.known.filter((peerId) => !this.#fetch.donors.has(peerId));
      await Promise.all(asked.map((peerId) => this.#ask(peerId)));
    } catch (error) {
      if (!this.#signal.aborted) throw error;
    }
  }

  async #ask(peerId: string): Promise<void> {
    if (this.#fetch.isLiar(peerId) || !(await this.#members.reach(peerId, this.#signal))) return;
    const catalogue = await this.#fetch.ask(peerId, this.#init.files);
    if (catalogue === null || this.#catalogue !== null) return;
    this.#catalogue = catalogue;
    this.#progressMs = performance.now();
  }

  #nobody(): string {
    const count = this.#members.known.length;
    const of = count === 1 ? 'the one member that is known' : `${count} members`;
    return count === 0
      ? `no member of the run is known that could share ${this.#place.name}`
      : `none of ${of} shares ${this.#place.name} (they start with --share-model)`;
  }

  #say(sentence: string): void {
    this.#init.io.stderr.write(`${sentence}\n`);
  }
}
