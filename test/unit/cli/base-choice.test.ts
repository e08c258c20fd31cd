import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { text as collect } from 'node:stream/consumers';
import { after, before, beforeEach, describe, it } from 'node:test';
import { openBaseModel } from '../../../node/base-model.js';
import { modelDirectory, openBase } from '../../../node/cli/base-choice.js';
import type { Run } from '../../../protocol/manifest.js';
import { HUB_COMMIT, HubServer, repositoryOf, type HubRepository } from '../../support/hub.js';
import { testRun } from '../../support/runs.js';
import { referenceCase, Scratch, TINY_BASE, userError } from '../model/fixtures.js';

const NAME = 'people/small';
/** With a tokenizer, which the reference cases do without. */
const SMALL: HubRepository = {
  ...repositoryOf(TINY_BASE),
  files: new Map([
    ...repositoryOf(TINY_BASE).files,
    ...repositoryOf(join(referenceCase('llama-gqa-tied'), 'base')).files,
  ]),
};
const scratch = new Scratch();
let hub: HubServer;
let cacheFile: string;

before(async () => {
  hub = await HubServer.start();
  hub.repositories.set(NAME, SMALL);
  process.env.HF_ENDPOINT = hub.url;
});
beforeEach(async () => {
  process.env.HF_HOME = await scratch.directory();
  cacheFile = join(process.env.HF_HOME, 'hashes.json');
  hub.requests.length = 0;
});
after(async () => {
  await hub.stop();
  await scratch.remove();
});

function terminal(): { io: Parameters<typeof modelDirectory>[2]; said: () => Promise<string> } {
  const stderr = new PassThrough();
  const io = { stderr, terminal: false, signal: new AbortController().signal };
  return { io, said: () => collect(stderr.end()) };
}

/** A run on the model that lies in `dir`. */
async function runOn(dir: string): Promise<Run> {
  const { fingerprint } = await openBaseModel(dir);
  const run = testRun();
  return { ...run, manifest: { ...run.manifest, model: { ...fingerprint, files: null } } };
}

describe('--model', () => {
  it('is a directory where there is one of that name, and says so', async () => {
    const place = process.cwd();
    process.chdir(await scratch.directory());
    try {
      await cp(TINY_BASE, 'people/small', { recursive: true });
      const { io, said } = terminal();
      assert.equal(await modelDirectory(NAME, null, io), NAME);
      assert.match(
        await said(),
        /^--model people\/small is the directory of that name here, not a/,
      );
      assert.deepEqual(hub.requests, []);
    } finally {
      process.chdir(place);
    }
  });

  it('with a path is a directory, there or not, and nobody is asked', async () => {
    for (const path of ['./small', '../x', '/no/such', 'a/b/c']) {
      assert.equal(await modelDirectory(path, null, terminal().io), path);
    }
    assert.deepEqual(hub.requests, []);
  });

  it('with a name is fetched, and the same words take the same commit later', async () => {
    const { io, said } = terminal();
    const dir = await modelDirectory(NAME, null, io);
    assert.match(
      await said(),
      new RegExp(
        `^fetching people/small, MB: .*model people/small at commit ${HUB_COMMIT}, in `,
        's',
      ),
    );
    hub.repositories.set(NAME, { ...SMALL, commit: 'ab'.repeat(20) });
    hub.requests.length = 0;
    const before = { model: NAME, modelDir: dir };
    assert.equal(await modelDirectory(NAME, before, terminal().io), dir);
    assert.deepEqual(hub.requests, []);
    const other = await modelDirectory(`${NAME}@main`, before, terminal().io);
    assert.match(other, /(ab){20}$/);
    hub.repositories.set(NAME, SMALL);
  });

  it('auto and peers need a run', async () => {
    for (const given of ['auto', 'peers']) {
      await assert.rejects(
        modelDirectory(given, null, terminal().io),
        userError(new RegExp(`^--model ${given} takes the model of a run`)),
      );
    }
  });
});

describe('the base of a run', () => {
  it('is the embedded one where the run has that, or is yet to be founded', async () => {
    for (const run of [null, await runOn(TINY_BASE)]) {
      const { dir } = await openBase(null, run, null, cacheFile, terminal().io);
      assert.equal(dir, TINY_BASE);
    }
    assert.deepEqual(hub.requests, []);
  });

  it('is never fetched without being told, and the sentence says how to tell it', async () => {
    const dir = await modelDirectory(NAME, null, terminal().io);
    const run = await runOn(dir);
    assert.equal(run.manifest.model.name, `${NAME}@${HUB_COMMIT}`);
    process.env.HF_HOME = await scratch.directory();
    hub.requests.length = 0;
    await assert.rejects(
      openBase(null, run, null, cacheFile, terminal().io),
      userError(
        new RegExp(
          `needs the base model ${NAME}@${HUB_COMMIT} \\(llama\\), which is not here: the same command with --model ${NAME}@${HUB_COMMIT} fetches it`,
        ),
      ),
    );
    assert.deepEqual(hub.requests, []);
    const { io, said } = terminal();
    const base = await openBase('auto', run, null, cacheFile, io);
    assert.deepEqual({ ...base.fingerprint, files: null }, run.manifest.model);
    assert.match(
      await said(),
      /fetching people\/small, MB: .*model people\/small at commit c0ffee/s,
    );
  });

  it('is taken from the cache where it is, whatever its name there', async () => {
    const run = await runOn(await modelDirectory(NAME, null, terminal().io));
    run.manifest.model.name = 'something-else';
    hub.requests.length = 0;
    const { io, said } = terminal();
    const { dir } = await openBase(null, run, null, cacheFile, io);
    assert.match(dir, /models--people--small/);
    assert.match(await said(), /^model something-else: it is in the cache, in /);
    assert.deepEqual(hub.requests, []);
  });

  it('with a name that no hub has is asked of the founder', async () => {
    const run = await runOn(await modelDirectory(NAME, null, terminal().io));
    run.manifest.model.name = 'own model';
    process.env.HF_HOME = await scratch.directory();
    for (const given of [null, 'auto']) {
      await assert.rejects(
        openBase(given, run, null, cacheFile, terminal().io),
        userError(
          /needs the base model own model \(llama\), which is not here: get its files from the founder/,
        ),
      );
    }
  });

  describe('that names its files', () => {
    const files = { root: 'cd'.repeat(32), size: 202 };
    let dir = '';
    let run: Run;
    const asked: unknown[] = [];
    const fromMembers = async (...args: unknown[]): Promise<string> => {
      asked.push(args);
      return Promise.resolve(dir);
    };

    beforeEach(async () => {
      dir = await modelDirectory(NAME, null, terminal().io);
      run = await runOn(dir);
      run.manifest.model.files = files;
      process.env.HF_HOME = await scratch.directory();
      delete process.env.HF_HUB_OFFLINE;
      hub.requests.length = 0;
      asked.length = 0;
    });

    it('is not fetched without being told, and the sentence says from where it would be', async () => {
      await assert.rejects(
        openBase(null, run, null, cacheFile, terminal().io, fromMembers),
        userError(
          /which is not here: the same command with --model auto fetches it from the hub, or from members that share it/,
        ),
      );
      run.manifest.model.name = 'own model';
      await assert.rejects(
        openBase(null, run, null, cacheFile, terminal().io, fromMembers),
        userError(/with --model auto fetches it from members that share it \(--share-model\)$/),
      );
      assert.deepEqual([hub.requests, asked], [[], []]);
    });

    it('is asked of members alone with peers, and remembered', async () => {
      const { io, said } = terminal();
      const base = await openBase('peers', run, null, cacheFile, io, fromMembers);
      assert.equal(base.dir, dir);
      assert.deepEqual(asked, [[run, files]]);
      assert.match(await said(), /^model people\/small@.*: fetched from members, in /m);
      const before = { model: 'peers', modelDir: dir };
      await openBase('peers', run, before, cacheFile, terminal().io, fromMembers);
      assert.equal(asked.length, 1);
      assert.deepEqual(hub.requests, []);
    });

    it('is asked of the hub with auto, and of members where that has none, refuses it or is not there', async () => {
      await openBase('auto', run, null, cacheFile, terminal().io, fromMembers);
      assert.deepEqual(asked, []);
      const without = async (why: RegExp): Promise<void> => {
        process.env.HF_HOME = await scratch.directory();
        asked.length = 0;
        const { io, said } = terminal();
        assert.equal((await openBase('auto', run, null, cacheFile, io, fromMembers)).dir, dir);
        assert.equal(asked.length, 1);
        assert.match(await said(), why);
      };
      hub.repositories.delete(NAME);
      await without(/^there is no model people\/small .*; asking the members of the run instead$/m);
      hub.repositories.set(NAME, SMALL);
      process.env.HF_HUB_OFFLINE = '1';
      await without(/^HF_HUB_OFFLINE is set.*; asking the members of the run instead$/m);
      delete process.env.HF_HUB_OFFLINE;
      hub.requests.length = 0;
      run.manifest.model.name = 'own model';
      await without(/^model own model: fetched from members/m);
      assert.deepEqual(hub.requests, []);
    });

    it('is not asked of members where the hub has it with other weights', async () => {
      run.manifest.model.weightsSha256 = 'ab'.repeat(32);
      await assert.rejects(
        openBase('auto', run, null, cacheFile, terminal().io, fromMembers),
        userError(/other weights than the run's model/),
      );
      assert.deepEqual(asked, []);
    });

    it('needs members, and their names of files, to be fetched from them', async () => {
      await assert.rejects(
        openBase('peers', run, null, cacheFile, terminal().io),
        userError(/which is not here/),
      );
      run.manifest.model.files = null;
      run.manifest.model.name = 'own model';
      await assert.rejects(
        openBase('peers', run, null, cacheFile, terminal().io, fromMembers),
        userError(/get its files from the founder/),
      );
      assert.deepEqual(asked, []);
    });
  });

  it('of another commit than the run has is not fetched', async () => {
    const run = await runOn(await modelDirectory(NAME, null, terminal().io));
    run.manifest.model.weightsSha256 = 'ab'.repeat(32);
    hub.requests.length = 0;
    process.env.HF_HOME = await scratch.directory();
    await assert.rejects(
      openBase('auto', run, null, cacheFile, terminal().io),
      userError(/other weights than the run's model/),
    );
    assert.equal(hub.requests.filter(({ isCdn }) => isCdn).length, 0);
  });
});
