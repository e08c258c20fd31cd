import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { inspect } from 'node:util';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { UserError } from '../../../node/errors.js';
import { createIdentity, loadOrCreateIdentity } from '../../../node/net/identity.js';
import { verifySignature } from '../../../protocol/identity.js';
import { makeDirectory } from '../../net/harness.js';

describe('loadOrCreateIdentity', () => {
  let directory: Awaited<ReturnType<typeof makeDirectory>>;
  before(async () => {
    directory = await makeDirectory();
  });
  after(() => directory.remove());

  it('makes a key file that only its owner may use, and finds the same peer in it again', async () => {
    const path = join(directory.path, 'key');
    const first = await loadOrCreateIdentity(path);
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    assert.equal((await loadOrCreateIdentity(path)).peerId, first.peerId);
    const other = await loadOrCreateIdentity(join(directory.path, 'other'));
    assert.notEqual(other.peerId, first.peerId);
  });

  it('signs what the protocol verifies under its peer id and under no other', async () => {
    const [one, two] = [await createIdentity(), await createIdentity()];
    const bytes = new TextEncoder().encode('an update');
    const signature = one.sign(bytes);
    assert.equal(signature.length, 64);
    assert.ok(verifySignature(one.peerId, bytes, signature));
    assert.ok(!verifySignature(two.peerId, bytes, signature));
    assert.equal(one.libp2pKey().publicKey.toString(), one.peerId);
  });

  it('shows no key material when it is printed', async () => {
    const identity = await createIdentity();
    const seed = identity.libp2pKey().raw.subarray(0, 32);
    const shown = inspect(identity, { depth: 9, showHidden: true }) + JSON.stringify(identity);
    for (const form of ['hex', 'base64', 'base64url'] as const) {
      assert.ok(!shown.includes(Buffer.from(seed).toString(form)));
    }
  });

  it('refuses a damaged key file, bit by bit, in one sentence without its content', async () => {
    const path = join(directory.path, 'damaged');
    const { peerId } = await loadOrCreateIdentity(path);
    const whole = await readFile(path);
    const damages = [
      Buffer.alloc(0),
      Buffer.from('hello'),
      whole.subarray(0, whole.length - 1),
      ...[0, 3, 4, 20, 40, 67].map((at) => {
        const flipped = Buffer.from(whole);
        flipped[at]! ^= 1;
        return flipped;
      }),
    ];
    for (const bytes of damages) {
      await writeFile(path, bytes);
      await assert.rejects(loadOrCreateIdentity(path), (error: unknown) => {
        assert.ok(error instanceof UserError, `damage ${bytes.toString('hex')} went unnoticed`);
        assert.match(error.message, /damaged|is not an Ed25519 key file/);
        assert.ok(!error.message.includes(whole.toString('hex').slice(8, 40)));
        return true;
      });
    }
    await writeFile(path, whole);
    assert.equal((await loadOrCreateIdentity(path)).peerId, peerId);
  });

  it('says in one sentence that the directory is missing', async () => {
    const path = join(directory.path, 'nowhere', 'key');
    await assert.rejects(loadOrCreateIdentity(path), /cannot be written \(ENOENT\)/);
  });
});
