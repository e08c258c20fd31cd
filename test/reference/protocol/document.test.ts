/** docs/PROTOCOL.md says the same as the code: its limits, schema, codes, names and links. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describe, it } from 'node:test';
import * as ids from '../../../protocol/ids.js';
import * as limits from '../../../protocol/limits.js';
import { VECTORS_FILE } from './vectors.js';

const ROOT = join(dirname(VECTORS_FILE), '../../..');

/** GitHub's anchor of a heading. */
function anchor(heading: string): string {
  const words = heading.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '');
  return words.replaceAll(' ', '-');
}

/** The text below a heading, up to the next of its level. */
function section(document: string, heading: string): string {
  const start = document.indexOf(`\n## ${heading}\n`);
  assert.notEqual(start, -1, `docs/PROTOCOL.md has a section "${heading}"`);
  const end = document.indexOf('\n## ', start + 1);
  return document.slice(start, end === -1 ? undefined : end);
}

describe('docs/PROTOCOL.md', async () => {
  const document = await readFile(join(ROOT, 'docs/PROTOCOL.md'), 'utf8');

  it('lists every limit with its value, and no other', () => {
    const rows = [...section(document, 'Limits').matchAll(/^\| `([A-Z_]+)` \| ([\d,]+) \|/gm)];
    const listed = rows.map(([, name = '', value = '']) => [
      name,
      Number(value.replaceAll(',', '')),
    ]);
    assert.deepEqual(Object.fromEntries(listed), { ...limits });
  });

  it('holds the schema of the wire format', async () => {
    const schema = await readFile(join(ROOT, 'protocol/wire/messages.proto'), 'utf8');
    const bare = schema
      .replace(/\/\/.*$/gm, '')
      .replace(/\s+/g, ' ')
      .trim();
    const block = /```proto\n(.*?)```/s.exec(document)?.[1] ?? '';
    assert.equal(block.replace(/\s+/g, ' ').trim(), bare);
  });

  it('gives a row to every code of a verdict', async () => {
    const source = await readFile(join(ROOT, 'protocol/errors.ts'), 'utf8');
    const union = /type RejectionCode =(.*?);/s.exec(source)?.[1] ?? '';
    const codes = [...union.matchAll(/'([a-z-]+)'/g)].map(([, code]) => code).sort();
    assert.ok(codes.length > 10);
    const rows = section(document, 'Verdicts').matchAll(
      /^\| `([a-z-]+)` \| (reject|ignore|defer) \|/gm,
    );
    assert.deepEqual([...new Set([...rows].map(([, code]) => code))].sort(), codes);
  });

  it('names the streams, the topic and the DHT as the code does', () => {
    const topic = ids.updateTopic('<run id>');
    for (const name of [
      ids.SYNC_PROTOCOL_ID,
      ids.BLOB_PROTOCOL_ID,
      ids.INTRODUCE_PROTOCOL_ID,
      ids.REACH_PROTOCOL_ID,
      ids.DHT_PROTOCOL_ID,
      topic,
    ]) {
      assert.ok(document.includes(`\`${name}\``), `docs/PROTOCOL.md names ${name}`);
    }
  });

  it('names only tests that exist', async () => {
    const named = [...section(document, 'Invariants').matchAll(/`([\w/.-]+\.test\.ts)`/g)];
    assert.ok(named.length > 10);
    for (const [, file = ''] of named) {
      await readFile(join(ROOT, file.includes('/') ? file : `test/unit/protocol/${file}`));
    }
  });

  it('has a target for every link', async () => {
    const anchors = new Set(
      [...document.matchAll(/^##+ (.*)$/gm)].map(([, text = '']) => anchor(text)),
    );
    for (const [, target = ''] of document.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target.startsWith('https:')) continue;
      if (target.startsWith('#'))
        assert.ok(anchors.has(target.slice(1)), `no heading for ${target}`);
      else await readFile(join(ROOT, 'docs', target));
    }
  });
});
