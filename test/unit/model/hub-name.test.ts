import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cacheFolderOf, hubNameOfDirectory, parseHubName } from '../../../node/model/hub-name.js';

const COMMIT = 'c0ffee0123456789c0ffee0123456789c0ffee01';

describe('a name on a hub', () => {
  it('is NAME or OWNER/NAME, with a revision or without', () => {
    assert.deepEqual(parseHubName('gpt2'), { name: 'gpt2', revision: null });
    assert.deepEqual(parseHubName('HuggingFaceTB/SmolLM2-135M-Instruct'), {
      name: 'HuggingFaceTB/SmolLM2-135M-Instruct',
      revision: null,
    });
    const pinned = { name: 'a/b.c_d', revision: COMMIT };
    assert.deepEqual(parseHubName(`a/b.c_d@${COMMIT}`), pinned);
    assert.deepEqual(parseHubName('a/b@refs/pr/1'), { name: 'a/b', revision: 'refs/pr/1' });
  });

  it('is nothing that is a path, an option, or climbs out of one', () => {
    const others = [
      ...['', '.', '..', './a', '../a', '/a', '~/a', 'a/', 'a/b/c', 'a//b', '-a', '--a', 'a b'],
      ...[
        'a\\b',
        'C:\\a',
        'a/..',
        '../..',
        'a..b',
        'a--b',
        'a@',
        'a@..',
        'a@../b',
        'a@/b',
        'a@b/../c',
      ],
      ...['a@b@c', 'a@-b', 'a@b/./c', 'a\n', 'ä', `a/${'b'.repeat(96)}`, `a@${'b'.repeat(201)}`],
    ];
    for (const text of others) assert.equal(parseHubName(text), null, JSON.stringify(text));
  });

  it('is found again in the directory of the cache', () => {
    for (const name of ['gpt2', 'owner/name-with.dots_1']) {
      const dir = `/any/where/${cacheFolderOf(name)}/snapshots/${COMMIT}`;
      assert.deepEqual(hubNameOfDirectory(dir), { name, commit: COMMIT });
    }
    const folder = 'models--a--b';
    const others = [
      `/x/${folder}/blobs/${COMMIT}`,
      `/x/${folder}/snapshots/main`,
      `/x/a/snapshots/${COMMIT}`,
      '/',
    ];
    for (const dir of others) assert.equal(hubNameOfDirectory(dir), null, dir);
    assert.equal(hubNameOfDirectory(`/x/models--/snapshots/${COMMIT}`), null);
  });
});
