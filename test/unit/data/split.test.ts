import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { readRecords } from '../../../node/data/readers.js';
import type { DataRecord } from '../../../node/data/records.js';
import { isHeldOut } from '../../../node/data/split.js';
import { Scratch } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const text = (content: string, line = 1): DataRecord => ({
  kind: 'text',
  text: content,
  endsDocument: true,
  splitKey: content,
  line,
});

describe('isHeldOut', () => {
  it('holds out about the share asked for', () => {
    const records = Array.from({ length: 4000 }, (_, i) => text(`example number ${i}`));
    for (const share of [0.1, 0.3]) {
      const count = records.filter((record) => isHeldOut(record, share)).length;
      const sigma = Math.sqrt(4000 * share * (1 - share));
      assert.ok(Math.abs(count - 4000 * share) < 4 * sigma, `${count} of 4000 for ${share}`);
    }
    assert.ok(records.every((record) => !isHeldOut(record, 0)));
    assert.ok(records.every((record) => isHeldOut(record, 1)));
  });

  it('sees the content alone: not the line, the white space around or the Unicode form', () => {
    fc.assert(
      fc.property(fc.lorem({ maxCount: 8 }), fc.nat(), (content, line) => {
        const side = isHeldOut(text(content), 0.5);
        assert.equal(isHeldOut(text(content, line), 0.5), side);
        assert.equal(isHeldOut(text(`  ${content.replaceAll(' ', ' \n\t')}\n`), 0.5), side);
        const accented = `${content} caf\u00e9`;
        assert.equal(
          isHeldOut(text(accented), 0.5),
          isHeldOut(text(accented.normalize('NFD')), 0.5),
        );
      }),
    );
  });

  it('is the same on every machine', () => {
    const sides = Array.from({ length: 24 }, (_, i) => isHeldOut(text(`sentence ${i}`), 0.3));
    // SHA-256 of ["held-out","sentence 0"] and so on, first 32 bits below 0.3 x 2^32.
    assert.equal(sides.map(Number).join(''), '100000110100000001001100');
  });

  it('sees every part of an example', () => {
    const differ = (make: (i: number) => DataRecord): boolean =>
      new Set(Array.from({ length: 40 }, (_, i) => isHeldOut(make(i), 0.5))).size === 2;
    const [line, kind] = [1, 'completion'] as const;
    assert.ok(differ((i) => ({ kind, prompt: `p${i}`, completion: 'c', line })));
    assert.ok(differ((i) => ({ kind, prompt: 'p', completion: `c${i}`, line })));
    const turn = (content: string): { role: string; content: string } => ({
      role: 'user',
      content,
    });
    assert.ok(differ((i) => ({ kind: 'messages', messages: [turn('a'), turn(`b${i}`)], line })));
  });

  it('moves no example when lines are added, removed or reordered', async () => {
    const file = join(await scratch.directory(), 'data.jsonl');
    const sidesOf = async (contents: readonly string[]): Promise<Map<string, boolean>> => {
      await writeFile(
        file,
        contents.map((content) => JSON.stringify({ text: content })).join('\n'),
      );
      const sides = new Map<string, boolean>();
      for await (const record of readRecords(file)) {
        assert.ok(record.kind === 'text');
        sides.set(record.text, isHeldOut(record, 0.3));
      }
      return sides;
    };
    const contents = fc.uniqueArray(fc.stringMatching(/^[a-z]{3,9}$/), {
      minLength: 2,
      maxLength: 20,
    });
    await fc.assert(
      fc.asyncProperty(contents, fc.nat(), async (all, cut) => {
        const some = all.slice(cut % all.length).toReversed();
        const [before, now] = [await sidesOf(some), await sidesOf(all)];
        for (const [content, side] of before) assert.equal(now.get(content), side);
      }),
      { numRuns: 20 },
    );
  });
});

describe('the split of plain text', () => {
  const paragraph = (i: number): string =>
    `Paragraph ${i}. ` + `It says something of its own, as number ${i} must. `.repeat(1 + (i % 9));

  async function sidesOf(file: string): Promise<Map<string, boolean>> {
    const sides = new Map<string, boolean>();
    for await (const record of readRecords(file)) {
      if (record.kind !== 'text') continue;
      const side = isHeldOut(record, 0.3);
      for (const part of record.text.trim().split('\n\n')) sides.set(part.trim(), side);
    }
    return sides;
  }

  it('moves nothing when text is appended', async () => {
    const file = join(await scratch.directory(), 'book.txt');
    const book = Array.from({ length: 90 }, (_, i) => paragraph(i));
    await writeFile(file, book.join('\n\n'));
    const whole = await sidesOf(file);
    for (let length = 1; length < book.length; length++) {
      await writeFile(file, book.slice(0, length).join('\n\n'));
      for (const [key, side] of await sidesOf(file)) assert.equal(side, whole.get(key));
    }
  });

  it('moves only its neighbours when text is put in between', async () => {
    const file = join(await scratch.directory(), 'book.txt');
    const book = Array.from({ length: 300 }, (_, i) => paragraph(i));
    const write = (paragraphs: readonly string[]): Promise<void> =>
      writeFile(file, paragraphs.join('\n\n'));
    await write(book);
    const before = await sidesOf(file);
    assert.equal(before.size, 300);
    assert.equal(new Set(before.values()).size, 2);
    const moved = async (): Promise<number> => {
      const now = await sidesOf(file);
      return [...before].filter(([key, side]) => now.get(key) !== side).length;
    };
    await write([...book.slice(0, 140), 'Something new in the middle.', ...book.slice(140)]);
    assert.ok((await moved()) <= 20, `${await moved()} of 300 paragraphs moved`);
  });
});
