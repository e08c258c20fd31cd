import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { openStatusPage, type StatusPage } from '../../../node/cli/status-page.js';
import { UserError } from '../../../node/errors.js';
import { DataDirectory } from '../../../node/store/directory.js';

let path = '';
const opened: StatusPage[] = [];

beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'murmurate-page-'));
});
afterEach(async () => {
  for (const page of opened.splice(0)) await page.server?.stop();
  await rm(path, { recursive: true, force: true });
});

async function open(http: number | 'off' = 0, directory = path): Promise<StatusPage> {
  const page = await openStatusPage(http, new DataDirectory(directory));
  opened.push(page);
  return page;
}

describe('openStatusPage()', () => {
  it('takes the port of the last start again, so that an open page finds the peer', async () => {
    const { server: first } = await open();
    const port = first?.port;
    await first?.stop();
    opened.pop();
    assert.equal((await open()).server?.port, port);
  });

  it('takes another where somebody has that port, and remembers the new one', async () => {
    const first = await open();
    const second = await open();
    assert.notEqual(second.server?.port, first.server?.port);
    assert.equal(await readFile(join(path, 'http-port'), 'utf8'), `${second.server?.port}\n`);
  });

  it('takes any port where the file is damaged', async () => {
    for (const text of ['', 'x\n', '0\n', '70000\n', '80 81\n']) {
      await writeFile(join(path, 'http-port'), text);
      assert.ok(((await open()).server?.port ?? 0) > 0, text);
    }
  });

  it('insists on a port that was asked for', async () => {
    const { server } = await open();
    await assert.rejects(open(server?.port), UserError);
  });

  it('opens nothing when it is off', async () => {
    assert.equal((await open('off')).server, null);
  });
});
