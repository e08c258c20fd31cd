import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { inspect } from 'node:util';
import { EXIT_USAGE, UserError } from '../../../node/errors.js';
import { makeSwarmKey, readSwarmKey } from '../../../node/net/swarm-key.js';
import { tighterMode } from '../../../node/private-file.js';

let place = '';
before(async () => {
  place = await mkdtemp(join(tmpdir(), 'murmurate-swarm-key-'));
});
after(() => rm(place, { recursive: true, force: true }));

describe('a swarm key file', () => {
  it('is made once, for its owner alone, and read as other libp2p programs write it', async () => {
    const path = join(place, 'made.key');
    const made = await makeSwarmKey(path);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.match(
      await readFile(path, 'utf8'),
      /^\/key\/swarm\/psk\/1\.0\.0\/\n\/base16\/\n[0-9a-f]{64}\n$/,
    );
    assert.deepEqual((await readSwarmKey(path))?.reveal(), made.reveal());
    await assert.rejects(makeSwarmKey(path), (error) => {
      return (
        error instanceof UserError && error.exitCode === EXIT_USAGE && /exists/.test(error.message)
      );
    });
    assert.equal(await readSwarmKey(join(place, 'none.key')), null);
  });

  it('is refused when others may read it, and says how to mend that', async () => {
    const path = join(place, 'loose.key');
    await makeSwarmKey(path);
    for (const mode of [0o640, 0o604, 0o660]) {
      await chmod(path, mode);
      await assert.rejects(readSwarmKey(path), /can be read by others \(mode 06\d\d\).*chmod 600/);
    }
  });

  it('may be read by a group that root gave it to, as mounted secrets are, but only there', () => {
    const [root, self] = [0, 10_001];
    const cases: [uid: number, mode: number, asks: number | null, wanted: string | null][] = [
      [root, 0o100440, self, null],
      [root, 0o100640, self, null],
      [root, 0o100444, self, '640'],
      [root, 0o100660, self, '640'],
      [root, 0o100640, root, '600'],
      [self, 0o100400, self, null],
      [self, 0o100440, self, '600'],
      [self, 0o100440, null, '600'],
    ];
    for (const [uid, mode, asks, wanted] of cases)
      assert.equal(tighterMode({ uid, mode }, asks), wanted, `${uid} ${mode.toString(8)} ${asks}`);
  });

  it('is refused without a word of what is in it when it is no key', async () => {
    const hex = 'ab'.repeat(32);
    for (const [i, text] of [
      '',
      hex,
      `/key/swarm/psk/1.0.0/\n/base16/\n${hex.slice(2)}\n`,
    ].entries()) {
      const path = join(place, `broken${i}.key`);
      await writeFile(path, text, { mode: 0o600 });
      await assert.rejects(readSwarmKey(path), (error: Error) => {
        return /is not a swarm key/.test(error.message) && !error.message.includes('abab');
      });
    }
  });

  it('shows no byte of itself in a log or an inspection', async () => {
    const key = await makeSwarmKey(join(place, 'shown.key'));
    const hex = Buffer.from(key.reveal()).toString('hex');
    for (const text of [inspect(key, { depth: 9, showHidden: true }), JSON.stringify(key)])
      assert.ok(!text.includes(hex) && !text.includes(String(key.reveal()[0]).padStart(3)));
  });
});
