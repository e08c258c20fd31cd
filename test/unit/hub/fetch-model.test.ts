import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmod,
  readFile,
  readdir,
  readlink,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { cachedModels } from '../../../node/hub/cache.js';
import { fetchModel, findCached, type FetchOptions } from '../../../node/hub/fetch-model.js';
import { partOf } from '../../../node/hub/transfer.js';
import { fileSha256 } from '../../../node/files.js';
import { fingerprintModel } from '../../../node/model/fingerprint.js';
import {
  HUB_COMMIT,
  HubServer,
  repositoryOf,
  tree,
  type HubRepository,
} from '../../support/hub.js';
import { referenceCase, Scratch, TINY_BASE, userError } from '../model/fixtures.js';

const NAME = 'people/tiny-base';
const wanted = { name: NAME, revision: null };
const OTHER_COMMIT = 'beef'.repeat(10);
/** A quarter of a megabyte of weights, with a tokenizer and a chat template. */
const SMALL: HubRepository = {
  ...repositoryOf(TINY_BASE),
  files: new Map([
    ...repositoryOf(TINY_BASE).files,
    ...repositoryOf(join(referenceCase('llama-gqa-tied'), 'base')).files,
  ]),
};
const SMALL_ELSEWHERE: HubRepository = { ...SMALL, commit: OTHER_COMMIT };
const WEIGHTS = SMALL.files.get('model.safetensors') ?? Buffer.alloc(0);
const weightsHash = createHash('sha256').update(WEIGHTS).digest('hex');
/** As in a fingerprint. */
const weightsSha256 = createHash('sha256')
  .update(`${weightsHash}  model.safetensors\n`)
  .digest('hex');
const scratch = new Scratch();
let hub: HubServer;

before(async () => {
  hub = await HubServer.start();
});
afterEach(() => {
  hub.faults = {};
  hub.requests.length = 0;
  hub.repositories.clear();
});
after(async () => {
  await hub.stop();
  await scratch.remove();
});

interface Fetching {
  /** Of the model in the cache. */
  root: string;
  said: string[];
  progress: [number, number][];
  options: FetchOptions;
}

/** An empty cache, a hub with a small model, and what asks for it. */
async function fetching(env: Record<string, string> = {}): Promise<Fetching> {
  hub.repositories.set(NAME, SMALL);
  const home = await scratch.directory();
  const said: string[] = [];
  const progress: [number, number][] = [];
  const options: FetchOptions = {
    env: { HF_ENDPOINT: hub.url, HF_HOME: home, ...env },
    signal: new AbortController().signal,
    say: (sentence) => said.push(sentence),
    onProgress: (...at) => progress.push(at),
    pauseMs: 1,
  };
  return { root: join(home, 'hub', 'models--people--tiny-base'), said, progress, options };
}

const large = (): number => hub.requests.filter(({ isCdn }) => isCdn).length;

describe('a model by name', () => {
  it("lies in Hugging Face's cache as its own library lays it out, and is the model that the hub has", async () => {
    const { root, progress, options } = await fetching();
    const { dir, commit } = await fetchModel(wanted, options);
    assert.equal(commit, HUB_COMMIT);
    assert.equal(dir, join(root, 'snapshots', HUB_COMMIT));
    assert.equal(await readFile(join(root, 'refs', 'main'), 'utf8'), HUB_COMMIT);
    assert.equal(
      await readlink(join(dir, 'model.safetensors')),
      join('..', '..', 'blobs', weightsHash),
    );
    const found = await fingerprintModel(dir);
    assert.deepEqual(
      { name: found.name, weightsSha256: found.weightsSha256 },
      { name: `${NAME}@${HUB_COMMIT}`, weightsSha256 },
    );
    assert.deepEqual(progress.at(-1), [WEIGHTS.length, WEIGHTS.length]);
    assert.deepEqual((await readdir(root)).sort(), ['blobs', 'refs', 'snapshots']);
  });

  it('takes only what a peer needs: no README, no pickles, nothing of sub-directories', async () => {
    const { root, options } = await fetching();
    const files = new Map(SMALL.files);
    files.set('pytorch_model.bin', Buffer.from('pickle'));
    hub.repositories.set(NAME, { ...SMALL, files });
    const { dir } = await fetchModel(wanted, options);
    assert.deepEqual((await readdir(dir)).sort(), [
      'chat_template.jinja',
      'config.json',
      'generation_config.json',
      'model.safetensors',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
    assert.equal((await readdir(join(root, 'blobs'))).length, 6);
  });

  it('takes all shards that the index names', async () => {
    const { options } = await fetching();
    const base = repositoryOf(join(referenceCase('mistral-shards'), 'base'));
    const tokenizer = await readFile(join(TINY_BASE, 'tokenizer.json'));
    const files = new Map(base.files).set('tokenizer.json', tokenizer);
    hub.repositories.set('sharded', { ...base, files });
    const { dir } = await fetchModel({ name: 'sharded', revision: 'main' }, options);
    const shards = [...files].filter(([name]) => name.endsWith('.safetensors'));
    assert.ok(shards.length > 1);
    for (const [name, bytes] of shards) assert.ok(bytes.equals(await readFile(join(dir, name))));
    assert.equal(await findCached(await fingerprintModel(dir), options.env), dir);
  });

  it('asks the hub again for what the branch is now, and fetches only what changed', async () => {
    const { root, options } = await fetching();
    await fetchModel(wanted, options);
    assert.equal(large(), 1);
    hub.repositories.set(NAME, SMALL_ELSEWHERE);
    assert.equal((await fetchModel(wanted, options)).commit, OTHER_COMMIT);
    assert.equal(large(), 1);
    assert.equal(await readFile(join(root, 'refs', 'main'), 'utf8'), OTHER_COMMIT);
  });

  it('asks nobody for the commit that this peer used before', async () => {
    const { root, options } = await fetching();
    const { dir } = await fetchModel(wanted, options);
    hub.repositories.set(NAME, SMALL_ELSEWHERE);
    hub.requests.length = 0;
    const again = await fetchModel(wanted, { ...options, pinned: HUB_COMMIT });
    assert.deepEqual(again, { dir, commit: HUB_COMMIT });
    assert.deepEqual(hub.requests, []);
    // Gone from the cache, it is fetched again, and the branch stays what it was.
    await fetchModel(wanted, options);
    hub.repositories.set(NAME, SMALL);
    await rm(dir, { recursive: true });
    assert.deepEqual(await fetchModel(wanted, { ...options, pinned: HUB_COMMIT }), again);
    assert.equal(await readFile(join(root, 'refs', 'main'), 'utf8'), OTHER_COMMIT);
  });

  it('two processes at once fetch it once', async () => {
    const { said, options } = await fetching();
    await Promise.all([fetchModel(wanted, options), fetchModel(wanted, options)]);
    assert.equal(large(), 1);
    assert.match(said[0] ?? '', /^another process is fetching people\/tiny-base; waiting/);
  });
});

describe('a transfer that breaks off', () => {
  it('goes on where it stopped, as often as it takes', async () => {
    const { options } = await fetching();
    hub.faults = { cutAfter: { bytes: 25_000, times: 8 } };
    const { dir } = await fetchModel(wanted, options);
    assert.equal(await fileSha256(join(dir, 'model.safetensors')), weightsHash);
    assert.equal(hub.ranges.length, 8);
    assert.match(hub.ranges[7] ?? '', /^bytes=[1-9]\d{4,5}-$/);
  });

  it('goes on with what a killed process left', async () => {
    const { root, options } = await fetching();
    const { dir } = await fetchModel(wanted, options);
    const blob = join(root, 'blobs', weightsHash);
    const bytes = await readFile(blob);
    await rm(blob);
    await writeFile(partOf(blob), bytes.subarray(0, 100_000));
    await fetchModel(wanted, options);
    assert.deepEqual(hub.ranges, ['bytes=100000-']);
    assert.equal(await fileSha256(join(dir, 'model.safetensors')), weightsHash);
  });

  it('begins again where the server sends the whole file', async () => {
    const { options } = await fetching();
    hub.faults = { cutAfter: { bytes: 50_000, times: 1 }, ignoresRange: true };
    const { dir } = await fetchModel(wanted, options);
    assert.equal(await fileSha256(join(dir, 'model.safetensors')), weightsHash);
  });

  it('keeps what came when it gives up, and says so', async () => {
    const { root, options } = await fetching();
    hub.faults = { cutAfter: { bytes: 100_000, times: 1 }, stallAfter: 0, endsEarly: true };
    await assert.rejects(
      fetchModel(wanted, options),
      userError(
        /people\/tiny-base, which is no directory here, cannot be got from http.*; what has come is kept, so run the command again/,
      ),
    );
    const held = await stat(partOf(join(root, 'blobs', weightsHash)));
    assert.ok(held.size > 0 && held.size <= 100_000, `${held.size}`);
  });

  it('ends at once when the person interrupts, and goes on the next time', async () => {
    const { root, options } = await fetching();
    const stop = new AbortController();
    hub.faults = { stallAfter: 100_000 };
    const onProgress = (done: number): void => {
      if (done > 50_000) stop.abort(new Error('Ctrl-C'));
    };
    await assert.rejects(
      fetchModel(wanted, { ...options, signal: stop.signal, onProgress }),
      /Ctrl-C/,
    );
    const held = (await stat(partOf(join(root, 'blobs', weightsHash)))).size;
    assert.ok(held > 50_000);
    hub.faults = {};
    await fetchModel(wanted, options);
    assert.deepEqual(hub.ranges, [`bytes=${held}-`]);
  });

  it('with another content than the hub named is told and not kept', async () => {
    const { root, options } = await fetching();
    hub.faults = { isCorrupt: true };
    await assert.rejects(
      fetchModel(wanted, options),
      userError(new RegExp(`model.safetensors came with another hash .*${weightsHash}.* not kept`)),
    );
    const left = await readdir(join(root, 'blobs'));
    assert.deepEqual(
      left.filter((name) => name.startsWith(weightsHash)),
      [],
    );
    hub.faults = {};
    await fetchModel(wanted, options);
  });

  it('a small file with another content too', async () => {
    const { options } = await fetching();
    const listing = tree(SMALL).map((entry) =>
      entry.path === 'config.json' ? { ...entry, oid: '0'.repeat(40) } : entry,
    );
    hub.faults = { listing };
    await assert.rejects(
      fetchModel(wanted, options),
      userError(/config.json came with another hash/),
    );
  });
});

describe('without a connection', () => {
  it('uses the cache and says so: HF_HUB_OFFLINE, and a hub that cannot be reached', async () => {
    const { said, options } = await fetching();
    const { dir } = await fetchModel(wanted, options);
    hub.requests.length = 0;
    const offline = { ...options, env: { ...options.env, HF_HUB_OFFLINE: '1' } };
    assert.equal((await fetchModel(wanted, offline)).dir, dir);
    assert.deepEqual(hub.requests, []);
    hub.faults = { status: 503 };
    assert.equal((await fetchModel(wanted, options)).dir, dir);
    // Nothing listens on the port of the discard protocol.
    const nobody = { ...options, env: { ...options.env, HF_ENDPOINT: 'http://127.0.0.1:9' } };
    assert.equal((await fetchModel(wanted, nobody)).dir, dir);
    assert.match(
      said[0] ?? '',
      /^HF_HUB_OFFLINE is set: using people\/tiny-base as it is in the cache, commit c0ffee012345$/,
    );
    assert.match(said[1] ?? '', /^http.* cannot be reached \(it answers with status 503\): using/);
    assert.match(said[2] ?? '', /^http:\/\/127.0.0.1:9 cannot be reached \([A-Z a-z]+\): using/);
  });

  it('says so when the cache has nothing of it, or only a part', async () => {
    const { root, options } = await fetching();
    const offline = { ...options, env: { ...options.env, HF_HUB_OFFLINE: '1' } };
    await assert.rejects(
      fetchModel(wanted, offline),
      userError(
        /^HF_HUB_OFFLINE is set, and the cache .*hub does not have people\/tiny-base: fetch it once/,
      ),
    );
    await fetchModel(wanted, options);
    await rm(join(root, 'snapshots', HUB_COMMIT, 'model.safetensors'));
    await assert.rejects(fetchModel(wanted, offline), userError(/has neither model.safetensors/));
  });

  it('names the hub that cannot be reached', async () => {
    const { options } = await fetching({ HF_ENDPOINT: 'http://127.0.0.1:9' });
    await assert.rejects(
      fetchModel(wanted, options),
      userError(
        /^people\/tiny-base, which is no directory here, cannot be got from http:\/\/127.0.0.1:9: .*\(HF_ENDPOINT names another hub\)$/,
      ),
    );
  });
});

describe('the access token', () => {
  const token = 'hf_theRightToken';

  it('goes to the hub and to no other host, from the environment or the file', async () => {
    for (const isFile of [false, true]) {
      const { options } = await fetching(isFile ? {} : { HF_TOKEN: token });
      hub.repositories.set(NAME, { ...SMALL, closed: 'gated' });
      if (isFile) await writeFile(join(options.env.HF_HOME ?? '', 'token'), `${token}\n`);
      await fetchModel(wanted, options);
      const seen = hub.requests.map(({ isCdn, authorization }) => ({ isCdn, authorization }));
      assert.equal(large(), 1);
      for (const { isCdn, authorization } of seen) {
        assert.equal(authorization, isCdn ? null : `Bearer ${token}`);
      }
      hub.requests.length = 0;
    }
  });

  it('is in no sentence, whatever it looks like and whatever the hub answers', async () => {
    const cases: [string, 'private' | 'gated', RegExp][] = [
      [
        'hf_wrong',
        'gated',
        /gated, and your access token does not open it: accept its licence at .*\/people\/tiny-base/,
      ],
      ['hf_wrong', 'private', /no model people\/tiny-base at .* that your access token opens/],
      ['hf_secret\u0000', 'gated', /^HF_TOKEN holds characters that no access token has/],
      ['hf_secret\u00e9', 'gated', /^HF_TOKEN holds characters that no access token has/],
    ];
    for (const [given, closed, sentence] of cases) {
      const { options, said } = await fetching({ HF_TOKEN: given });
      hub.repositories.set(NAME, { ...SMALL, closed });
      await assert.rejects(fetchModel(wanted, options), (error: Error) => {
        assert.match(error.message, sentence);
        const shown = `${error.stack ?? ''} ${JSON.stringify(error)} ${said.join()}`;
        assert.doesNotMatch(shown, /hf_(wrong|secret)/);
        return true;
      });
    }
  });

  it('is asked for where it is needed', async () => {
    const { options } = await fetching();
    hub.repositories.set(NAME, { ...SMALL, closed: 'gated' });
    await assert.rejects(
      fetchModel(wanted, options),
      userError(
        /is gated: accept its licence at .*, then set HF_TOKEN, or log in with huggingface-cli login$/,
      ),
    );
    hub.repositories.set(NAME, { ...SMALL, closed: 'private' });
    await assert.rejects(
      fetchModel(wanted, options),
      userError(/open to everybody: check the name/),
    );
  });
});

describe('what cannot be had', () => {
  it('a model or a revision that is not there: what was asked for', async () => {
    const { options } = await fetching();
    await assert.rejects(
      fetchModel({ name: 'people/tyni-base', revision: null }, options),
      userError(
        /there is no model people\/tyni-base at .*check the name; it is no directory here either/,
      ),
    );
    await assert.rejects(
      fetchModel({ name: NAME, revision: 'v2' }, options),
      userError(/people\/tiny-base has no revision "v2" at/),
    );
  });

  it('pickles only, no tokenizer, a kind of model that is not supported: before any weight is fetched', async () => {
    const { files } = SMALL;
    const without = (...names: string[]): Map<string, Buffer> =>
      new Map([...files].filter(([name]) => !names.includes(name)));
    const pickles = without('model.safetensors').set('pytorch_model.bin', Buffer.from('x'));
    const foreign = without().set('config.json', Buffer.from('{"model_type": "mamba"}'));
    const cases: [Map<string, Buffer>, RegExp][] = [
      [
        pickles,
        /has its weights on the hub as pytorch_model.bin only, and only safetensors are read/,
      ],
      [without('model.safetensors'), /has no weights on the hub/],
      [without('tokenizer.json'), /has no tokenizer.json on the hub/],
      [foreign, /mamba/],
    ];
    for (const [content, sentence] of cases) {
      const { options } = await fetching();
      hub.repositories.set(NAME, { ...SMALL, files: content });
      await assert.rejects(fetchModel(wanted, options), userError(sentence));
      assert.equal(large(), 0);
    }
  });

  it('other weights than the run has: before they are fetched', async () => {
    const { options } = await fetching();
    await assert.rejects(
      fetchModel(wanted, { ...options, weightsSha256: 'ab'.repeat(32) }),
      userError(
        /has other weights than the run's model, so it was not fetched: the run has abababababab/,
      ),
    );
    assert.equal(large(), 0);
    await fetchModel(wanted, { ...options, weightsSha256 });
  });

  it('more than the disk holds', async () => {
    const { options } = await fetching();
    const listing = tree(SMALL).map((entry) =>
      entry.path === 'model.safetensors'
        ? { ...entry, lfs: { oid: weightsHash, size: 2 ** 40, pointerSize: 1 } }
        : entry,
    );
    hub.faults = { listing };
    await assert.rejects(
      fetchModel(wanted, options),
      userError(
        /people\/tiny-base needs 1099\.\d+ GB on the disk of .*, which has .* GB left: free some space/,
      ),
    );
  });

  it('a cache that cannot be written', { skip: process.getuid?.() === 0 }, async () => {
    const { options } = await fetching();
    await chmod(options.env.HF_HOME ?? '', 0o500);
    await assert.rejects(
      fetchModel(wanted, options),
      userError(/this user may not write there; set HF_HUB_CACHE/),
    );
  });

  it('a cache whose path is a file', async () => {
    const { options } = await fetching();
    await writeFile(join(options.env.HF_HOME ?? '', 'hub'), 'x');
    await assert.rejects(
      fetchModel(wanted, options),
      userError(/a part of its path is a file; set HF_HUB_CACHE/),
    );
  });
});

describe('a hub that lies', () => {
  it('no name from it becomes a path: such files are left out', async () => {
    const { options } = await fetching();
    const names = [
      '../../config.json',
      '/etc/config.json',
      'a\\..\\config.json',
      '.',
      '..',
      '-x',
      'C:x',
      '',
    ];
    const evil = names.map((path) => ({ type: 'file', path, oid: '0'.repeat(40), size: 1 }));
    hub.faults = { listing: [...tree(SMALL), ...evil] };
    const { dir } = await fetchModel(wanted, options);
    assert.equal((await readdir(dir)).length, 6);
    const index = Buffer.from('{"weight_map": {"a": "../../x.safetensors"}}');
    const files = new Map(SMALL.files).set('model.safetensors.index.json', index);
    files.delete('model.safetensors');
    hub.faults = {};
    hub.repositories.set(NAME, { ...SMALL_ELSEWHERE, files });
    await assert.rejects(
      fetchModel(wanted, options),
      userError(
        /the index of people\/tiny-base names the weight file "\.\.\/\.\.\/x.safetensors", which the hub does not have/,
      ),
    );
  });

  it('hashes that are none, commits that are none and other answers end in a sentence', async () => {
    const strange = [
      tree(SMALL).map((entry) => ({ ...entry, oid: '../x', lfs: undefined })),
      { error: 'x' },
      'text',
    ];
    for (const listing of strange) {
      const { options } = await fetching();
      hub.faults = { listing };
      await assert.rejects(fetchModel(wanted, options), userError(/has no weights|as a hub does/));
    }
    const { options } = await fetching();
    hub.repositories.set(NAME, { ...SMALL, commit: '../../x' });
    await assert.rejects(fetchModel(wanted, options), userError(/as a hub does \(no commit\)/));
  });

  it('more files, or more bytes of an answer, than any model has', async () => {
    const entry = { type: 'file', path: 'a', oid: '0'.repeat(40), size: 1 };
    const { options } = await fetching();
    hub.faults = { listing: Array.from({ length: 10_001 }, () => entry) };
    await assert.rejects(fetchModel(wanted, options), userError(/more than 10000 files/));
    hub.faults = { listing: 'x'.repeat(9 * 1024 * 1024) };
    await assert.rejects(fetchModel(wanted, options), userError(/more than 8388608 bytes/));
  });

  it('a file that is longer than it said', async () => {
    const { options } = await fetching();
    const listing = tree(SMALL).map((entry) =>
      entry.path === 'config.json' ? { ...entry, size: 10 } : entry,
    );
    hub.faults = { listing };
    await assert.rejects(
      fetchModel(wanted, options),
      userError(/config.json is longer than the 10 bytes/),
    );
  });

  it('redirects to what is no address, or round and round', async () => {
    const { options } = await fetching();
    hub.faults = { redirect: 'file:///etc' };
    await assert.rejects(fetchModel(wanted, options), userError(/a redirect to nowhere/));
    hub.faults = { redirect: `${hub.url}/${NAME}/resolve/main/model.safetensors?` };
    await assert.rejects(fetchModel(wanted, options), userError(/more than 5 redirects/));
  });
});

describe('the cache', () => {
  it('lists what is there, with the hash of the weights by the names of the blobs', async () => {
    const { root, options } = await fetching();
    assert.deepEqual(await cachedModels(join(options.env.HF_HOME ?? '', 'hub')), []);
    const { dir } = await fetchModel(wanted, options);
    const [model, ...others] = await cachedModels(join(root, '..'));
    assert.deepEqual(others, []);
    assert.ok(model);
    assert.equal(model.weightsSha256, weightsSha256);
    assert.deepEqual(
      { name: model.name, commit: model.commit, dir: model.dir },
      { name: NAME, commit: HUB_COMMIT, dir },
    );
    assert.ok(model.bytes > WEIGHTS.length);
    const fingerprint = await fingerprintModel(dir);
    await truncate(join(root, 'blobs', weightsHash), 1000);
    assert.equal(await findCached(fingerprint, options.env), null);
    // A blob that lost its end is fetched again.
    await fetchModel(wanted, options);
    assert.equal(await findCached(fingerprint, options.env), dir);
  });
});
