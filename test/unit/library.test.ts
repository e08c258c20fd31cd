import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, it } from 'node:test';
import { Peer, UserError, VERSION } from '../../node/index.js';
import { PACKAGE_DIRECTORY } from '../../node/version.js';

describe('the library', () => {
  it('refuses wrong options with the sentences of the command line, before anything is opened', async () => {
    const cases: [object, RegExp][] = [
      [{}, /no data to train on/],
      [{ data: ['x.txt'], rank: 512 }, /--rank is "512"; it must be a whole number from 1 to 256/],
      [{ data: ['x.txt'], learningRate: NaN }, /--learning-rate is "NaN"; it must be a number/],
      [{ data: 'x.txt', rankk: 8 }, /there is no option rankk \(did you mean rank\?\)/],
      [{ data: ['x.txt'], relay: 'yes' }, /--relay is "yes"; it must be true or false/],
    ];
    for (const [options, sentence] of cases) {
      await assert.rejects(Peer.start(options), (error) => {
        assert.ok(error instanceof UserError);
        assert.match(error.message, sentence);
        return true;
      });
    }
    await assert.rejects(Peer.join('nowhere', { data: ['x.txt'] }), /"nowhere" is not an address/);
    await assert.rejects(Peer.join('murmurate1broken', { data: ['x.txt'] }), UserError);
  });

  it('says which version it is', async () => {
    const text = await readFile(path.join(PACKAGE_DIRECTORY, 'package.json'), 'utf8');
    assert.equal((JSON.parse(text) as { version: string }).version, VERSION);
  });

  it('is shown in docs/LIBRARY.md by the example that is compiled and run', async () => {
    const [document, example] = await Promise.all(
      [path.join('docs', 'LIBRARY.md'), path.join('examples', 'library', 'train.ts')].map((file) =>
        readFile(path.join(PACKAGE_DIRECTORY, file), 'utf8'),
      ),
    );
    assert.equal(/^```ts\n(.*?)^```$/ms.exec(document ?? '')?.[1], example);
  });
});
