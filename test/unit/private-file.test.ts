import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, chown, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { replaceFile } from '../../node/files.js';
import { openHome } from '../../node/home.js';
import { loadOrCreateIdentity } from '../../node/net/identity.js';
import { makeSwarmKey, readSwarmKey } from '../../node/net/swarm-key.js';
import { exposure, readPrivateFile } from '../../node/private-file.js';
import { DataDirectory } from '../../node/store/directory.js';
import { writeSettings } from '../../node/store/settings.js';
import { Scratch, userError } from './model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const isRoot = process.getuid?.() === 0;
const unexpected = (sentence: string): never => {
  throw new Error(sentence);
};
const hasModes = process.platform !== 'win32';
const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

/** Each kind of key file: makes one, and reads it. */
const KEYS = {
  identity: {
    make: async (path: string): Promise<unknown> => loadOrCreateIdentity(path),
    read: async (path: string): Promise<unknown> => loadOrCreateIdentity(path),
  },
  'swarm key': {
    make: async (path: string): Promise<unknown> => makeSwarmKey(path),
    read: async (path: string): Promise<unknown> => readSwarmKey(path),
  },
};

describe('a key file', { skip: !hasModes }, () => {
  for (const [name, { make, read }] of Object.entries(KEYS)) {
    it(`(${name}) is its owner's alone from its first byte, whatever lay beside it`, async () => {
      const dir = await scratch.directory();
      const path = join(dir, 'a.key');
      const elsewhere = join(dir, 'elsewhere');
      await writeFile(elsewhere, 'untouched', { mode: 0o644 });
      // What a crash or somebody else left where it is written first.
      await symlink(elsewhere, `${path}.tmp`);
      await make(path);
      assert.equal(await modeOf(path), 0o600);
      assert.equal(await readFile(elsewhere, 'utf8'), 'untouched');
      await read(path);
    });

    it(`(${name}) is refused when others may read or write it`, async () => {
      const path = join(await scratch.directory(), 'a.key');
      await make(path);
      for (const mode of [0o640, 0o604, 0o660, 0o666, 0o620]) {
        await chmod(path, mode);
        await assert.rejects(
          read(path),
          userError(/holds a secret and can be read by others \(mode 06\d\d\).*: chmod 600 /),
        );
      }
      await chmod(path, 0o400);
      await read(path);
    });

    it(`(${name}) is refused as a link out of its directory, and taken as one within`, async () => {
      const [dir, outside] = [await scratch.directory(), await scratch.directory()];
      await make(join(outside, 'a.key'));
      await symlink(join(outside, 'a.key'), join(dir, 'out.key'));
      await assert.rejects(
        read(join(dir, 'out.key')),
        userError(/out\.key is a link to .*, outside its directory/),
      );
      await symlink(join(dir, 'nothing'), join(dir, 'dangling.key'));
      await assert.rejects(
        read(join(dir, 'dangling.key')),
        userError(/a link to a file that does not exist/),
      );
      // As Kubernetes mounts a secret.
      await mkdir(join(dir, '..data'));
      await make(join(dir, '..data', 'a.key'));
      await symlink(join('..data', 'a.key'), join(dir, 'mounted.key'));
      await read(join(dir, 'mounted.key'));
    });

    it(`(${name}) of another user is refused`, { skip: !isRoot }, async () => {
      const path = join(await scratch.directory(), 'a.key');
      await make(path);
      await chown(path, 12_345, 12_345);
      await assert.rejects(
        read(path),
        userError(/belongs to another user \(uid 12345, this process has 0\)/),
      );
    });
  }

  it('is not waited for where it is a named pipe', async () => {
    const path = join(await scratch.directory(), 'a.key');
    execFileSync('mkfifo', ['-m', '600', path]);
    await assert.rejects(readPrivateFile(path), userError(/is not a regular file/));
  });

  it('is judged by owner and mode, on systems that have them', () => {
    assert.equal(exposure('k', { uid: 5, mode: 0o100666 }, null), null);
    assert.equal(exposure('k', { uid: 5, mode: 0o100600 }, 5), null);
    assert.equal(exposure('k', { uid: 0, mode: 0o100440 }, 5), null, 'a mounted secret');
    assert.match(exposure('k', { uid: 0, mode: 0o100444 }, 5) ?? '', /chmod 640 k/);
    assert.match(
      exposure('k', { uid: 7, mode: 0o100600 }, 5) ?? '',
      /belongs to another user \(uid 7/,
    );
  });
});

describe('a data directory', { skip: !hasModes }, () => {
  it("and all that is written into it is its owner's alone", async () => {
    const path = join(await scratch.directory(), 'peer');
    const { directory, lock } = await openHome(path, unexpected, unexpected);
    await directory.writeManifest(new Uint8Array(3));
    await directory.writeLines('http', ['http://127.0.0.1:1']);
    await writeSettings(directory, {
      model: 'm',
      dataFiles: ['private.txt'],
      heldOutShare: 0,
    } as never);
    assert.equal(await modeOf(path), 0o700);
    for (const file of ['identity', 'manifest', 'http', 'settings'] as const) {
      assert.equal(await modeOf(directory.pathOf(file)), 0o600, file);
    }
    await lock.release();
  });

  it('is closed to others when a peer starts in it, with a sentence for what was open', async () => {
    const path = join(await scratch.directory(), 'peer');
    await (await openHome(path, unexpected)).lock.release();
    const directory = new DataDirectory(path);
    await writeFile(directory.pathOf('state'), 'x', { mode: 0o600 });
    for (const file of ['identity', 'state'] as const) await chmod(directory.pathOf(file), 0o644);
    await chmod(path, 0o755);
    const said: string[] = [];
    await (
      await openHome(path, unexpected, (sentence) => void said.push(sentence))
    ).lock.release();
    assert.match(said[0] ?? '', /peer was open to others \(mode 0755\); now it is not/);
    assert.match(
      said[1] ?? '',
      /others could read identity\.key, state\.bin in .*; now they cannot/,
    );
    assert.equal(said.length, 2);
    assert.equal(await modeOf(path), 0o700);
    for (const file of ['identity', 'state'] as const) {
      assert.equal(await modeOf(directory.pathOf(file)), 0o600);
    }
  });

  it('that holds other things is left as it is, and refused when others may write to it', async () => {
    const path = await scratch.directory();
    await writeFile(join(path, 'thesis.txt'), '');
    await chmod(path, 0o755);
    await (await openHome(path, unexpected, unexpected)).lock.release();
    assert.equal(await modeOf(path), 0o755);
    for (const mode of [0o777, 0o1777, 0o775]) {
      const shared = await scratch.directory();
      await writeFile(join(shared, 'thesis.txt'), '');
      await chmod(shared, mode);
      await assert.rejects(
        openHome(shared, unexpected),
        userError(/others may write to .*: take another --dir/),
      );
      assert.equal(await modeOf(shared), mode & 0o777);
    }
  });

  it('of another user is refused', { skip: !isRoot }, async () => {
    const path = await scratch.directory();
    await chown(path, 12_345, 12_345);
    await assert.rejects(
      openHome(path, unexpected),
      userError(/belongs to another user \(uid 12345/),
    );
  });
});

describe('replaceFile', () => {
  it('makes the new file with its mode, also where an older draft was open to others', async () => {
    const path = join(await scratch.directory(), 'a');
    await writeFile(`${path}.tmp`, 'left by a crash', { mode: 0o666 });
    await replaceFile(path, ['secret'], 0o600);
    assert.equal(await readFile(path, 'utf8'), 'secret');
    if (hasModes) assert.equal(await modeOf(path), 0o600);
  });
});
