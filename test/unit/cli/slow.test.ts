import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { sayIfSlow } from '../../../node/cli/slow.js';

describe('sayIfSlow()', () => {
  it('says once what takes long, while it is still under way', async () => {
    const out = new PassThrough({ encoding: 'utf8' });
    const said = new Promise((resolve) => out.once('data', resolve));
    assert.equal(await sayIfSlow(out, 'reading', said, 1), 'reading ...\n');
    assert.equal(out.read(), null);
  });

  it('is silent when the work is done, or fails, in time', async () => {
    const out = new PassThrough({ encoding: 'utf8' });
    assert.equal(await sayIfSlow(out, 'reading', Promise.resolve(7), 60_000), 7);
    const failing = sayIfSlow(out, 'reading', Promise.reject(new RangeError('no')), 60_000);
    await assert.rejects(failing, RangeError);
    assert.equal(out.read(), null);
  });
});
