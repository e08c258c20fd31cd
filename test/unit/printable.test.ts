import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { printableOutput, rawOutput } from '../../node/cli/output.js';
import { runProgram } from '../../node/cli/program.js';
import { createLogger } from '../../node/log.js';
import { printable, printableLine } from '../../node/printable.js';

/** What a terminal would act on, and halves of characters. */
const STEERING = /[^\P{Cc}\n\t]|[\p{Cs}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/u;
const anyText = fc.string({
  unit: fc.oneof(
    fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)),
    fc.constantFrom('\u001b', '\u202e', '\u009b', '\ud800', '\n', '\t', 'é', '😀'),
  ),
});

describe('printable', () => {
  it('leaves nothing that a terminal would act on, but for line feeds and tabs', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        assert.doesNotMatch(printable(text), STEERING);
        assert.doesNotMatch(printableLine(text), /[\p{Cc}\p{Cs}]/u);
      }),
    );
    assert.equal(
      printable('a\u001b[2J\r\n\tb\u009b\u202e\ud83d'),
      'a\\u001b[2J\\r\n\tb\\u009b\\u202e\\ud83d',
    );
    assert.equal(printableLine('a\n\tb'), 'a\\n\\tb');
  });

  it('changes nothing in ordinary text of any language', () => {
    const text = 'Grüße, 你好, שלום, हिन्दी, 👩‍👩‍👧 and\ttabs\nand lines';
    assert.equal(printable(text), text);
  });

  it('leaves JSON the JSON of the same value', () => {
    fc.assert(
      fc.property(fc.record({ a: anyText }, { noNullPrototype: true }), (value) => {
        assert.deepEqual(JSON.parse(printable(JSON.stringify(value))), value);
      }),
    );
  });
});

function collected(): { out: PassThrough; text: () => string } {
  const out = new PassThrough();
  return { out, text: () => String(out.read() ?? '') };
}

describe('the output of a verb', () => {
  it('is escaped, whatever the verb prints, and so are its errors', async () => {
    const [stdout, stderr] = [collected(), collected()];
    const verb = {
      ...{ name: 'rude', summary: 'Prints a name.', args: [], options: {}, example: 'rude' },
      run: ({ io }: { io: { stdout: NodeJS.WritableStream; stderr: NodeJS.WritableStream } }) => {
        io.stdout.write('a run \u001b]0;named\u0007 so\n');
        io.stdout.write(`${JSON.stringify({ name: '\u202e\u009b' })}\n`);
        io.stderr.write('progress \r\u001b[1A of it\n');
        throw new Error('said by a peer: \u001b[31m');
      },
    };
    const io = {
      ...{ stdout: stdout.out, stderr: stderr.out, terminal: false },
      ...{ signal: new AbortController().signal, interrupt: () => undefined },
    };
    assert.equal(await runProgram([verb as never], ['rude'], io, {}), 1);
    const [printed, said] = [stdout.text(), stderr.text()];
    assert.doesNotMatch(printed + said, STEERING);
    const [line, json] = printed.split('\n');
    assert.equal(line, 'a run \\u001b]0;named\\u0007 so');
    assert.deepEqual(JSON.parse(json ?? ''), { name: '\u202e\u009b' });
    assert.match(said, /progress \\r\\u001b\[1A of it\n/);
  });

  it('goes as it is to the stream underneath', () => {
    const { out, text } = collected();
    const safe = printableOutput(out);
    safe.write('\u001b[1m');
    rawOutput(safe).write('\u001b[1m');
    assert.equal(text(), '\\u001b[1m\u001b[1m');
    assert.equal(rawOutput(out), out);
  });

  it('is valid JSON in a log of JSON, without what a terminal acts on', () => {
    const { out, text } = collected();
    createLogger({ level: 'info', format: 'json', out }).warn(
      { name: '\u009b\u202e\u001b' },
      'seen',
    );
    const line = text();
    assert.doesNotMatch(line, STEERING);
    assert.equal((JSON.parse(line) as { name: string }).name, '\u009b\u202e\u001b');
  });
});
