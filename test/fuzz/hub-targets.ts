/** What a hub answers about a model, and what lies in a cache that others wrote. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ModelCache } from '../../node/hub/cache.js';
import { HubAnswerError } from '../../node/hub/client.js';
import { askListing, smallFiles, weightFiles } from '../../node/hub/listing.js';
import { UserError } from '../../node/errors.js';
import { formatHubName, hubNameOfDirectory, parseHubName } from '../../node/model/hub-name.js';
import { HUB_COMMIT, repositoryOf, tree } from '../support/hub.js';
import { TINY_BASE } from '../unit/model/fixtures.js';
import { scratch } from './files.js';
import type { FuzzTarget, FuzzTargets } from './oracle.js';

const info = { id: 'a/b', sha: HUB_COMMIT, gated: false, private: false };
const answers = (...values: unknown[]): Uint8Array =>
  Buffer.from(values.map((value) => JSON.stringify(value)).join('\n'));

/** The first line is what the model is, the rest the list of its files. */
const hubListing: FuzzTarget = {
  seeds: [
    answers(info, tree(repositoryOf(TINY_BASE))),
    answers({ ...info, gated: 'manual' }, [
      ...tree(repositoryOf(TINY_BASE)),
      { type: 'directory' },
    ]),
  ],
  refusals: [HubAnswerError, UserError],
  run: async (bytes) => {
    const text = Buffer.from(bytes).toString('utf8');
    const [first = '', ...rest] = text.split('\n');
    const fetchAnswer: typeof fetch = async (url) =>
      new Response(
        (url instanceof Request ? url.url : url.toString()).includes('/tree/')
          ? rest.join('\n')
          : first,
      );
    const listing = await askListing({ url: 'http://hub', fetchAnswer }, 'a/b', 'main');
    assert.match(listing.commit, /^[0-9a-f]{40}$/);
    for (const [key, { name, hash, bytes: size }] of listing.files) {
      assert.equal(key, name);
      assert.match(name, /^\w[\w.-]*$/);
      assert.match(hash, /^([0-9a-f]{40}|[0-9a-f]{64})$/);
      assert.ok(Number.isSafeInteger(size) && size >= 0);
    }
    const chosen = [...smallFiles(listing, 'a/b'), ...weightFiles(listing, 'a/b', null)];
    assert.ok(chosen.length >= 3);
  },
};

/** A name that somebody gives, or that a founder put into a manifest. */
const hubName: FuzzTarget = {
  seeds: ['gpt2', 'owner/name', `owner/name@${HUB_COMMIT}`, 'a/b@refs/pr/1'].map((text) =>
    Buffer.from(text),
  ),
  refusals: [],
  run: (bytes) => {
    const text = Buffer.from(bytes).toString('utf8');
    const parsed = parseHubName(text);
    if (parsed === null) return;
    assert.equal(formatHubName(parsed), text);
    const cache = new ModelCache('/cache', parsed.name);
    assert.ok(cache.root.startsWith('/cache/models--'), cache.root);
    assert.equal(cache.root.split('/').length, 3);
    assert.deepEqual(hubNameOfDirectory(cache.snapshot(HUB_COMMIT)), {
      name: parsed.name,
      commit: HUB_COMMIT,
    });
  },
};

/** refs/main of a cache. */
const hubRef: FuzzTarget = {
  seeds: [Buffer.from(HUB_COMMIT), Buffer.from(`${HUB_COMMIT}\n`)],
  refusals: [],
  run: async (bytes) => {
    const cache = new ModelCache(scratch, 'a/b');
    mkdirSync(join(cache.root, 'refs'), { recursive: true });
    writeFileSync(join(cache.root, 'refs', 'main'), bytes);
    const commit = await cache.commitOf('main');
    assert.ok(commit === null || /^[0-9a-f]{40}$/.test(commit));
  },
};

export const hubTargets: FuzzTargets = {
  'hub-listing': hubListing,
  'hub-name': hubName,
  'hub-ref': hubRef,
};
