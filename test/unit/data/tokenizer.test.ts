import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import * as fc from 'fast-check';
import { tokeniseRecord } from '../../../node/data/tokenise.js';
import { openTokenizer, type TokenizerModel } from '../../../node/data/tokenizer.js';
import { Scratch, TINY_BASE, userError } from '../model/fixtures.js';

const scratch = new Scratch();
after(() => scratch.remove());

const MODEL: TokenizerModel = { vocabSize: 4096, eosTokenIds: [0], padTokenId: 0 };

/** tiny-base's tokenizer.json with some fields replaced, in a directory of its own. */
async function changed(tokenizer: object, config: object): Promise<string> {
  const dir = await scratch.directory();
  const text = await readFile(join(TINY_BASE, 'tokenizer.json'), 'utf8');
  const fields = JSON.parse(text) as Record<string, unknown>;
  await writeFile(join(dir, 'tokenizer.json'), JSON.stringify({ ...fields, ...tokenizer }));
  await writeFile(join(dir, 'tokenizer_config.json'), JSON.stringify(config));
  return dir;
}

describe('openTokenizer', () => {
  it('encodes as the Python library tokenizers 0.23 does', async () => {
    const tokenizer = await openTokenizer(TINY_BASE, MODEL);
    const expected: [string, number[]][] = [
      ['Hello world', [42, 461, 81, 938]],
      [
        "The patient's file number is 42.",
        [532, 1768, 1603, 380, 277, 680, 2177, 345, 1991, 20, 16],
      ],
      [
        '  two  spaces\n\nand\ttabs',
        [223, 689, 223, 538, 634, 286, 201, 201, 419, 200, 86, 730, 85],
      ],
      [
        'café — naïve 漢字 🙂',
        [
          69, 3658, 1088, 223, 1964, 245, 297, 67, 130, 110, 314, 223, 165, 123, 98, 164, 258, 248,
          223, 175, 256, 250, 227,
        ],
      ],
      ['<|im_start|>user\nWhat is it?<|im_end|>\n', [1, 406, 270, 201, 1076, 345, 328, 33, 2, 201]],
      [
        "I'll we've don't CAN'T 12345 3.14",
        [43, 992, 349, 1466, 906, 520, 409, 2033, 9, 54, 791, 20, 21, 22, 23, 1839, 16, 19, 22],
      ],
      ['e\u0301 vs \u00e9', [71, 139, 226, 432, 85, 223, 1088]],
      ['a\r\nb', [67, 204, 201, 68]],
      [' ', [223]],
      ['', []],
    ];
    for (const [text, ids] of expected) {
      assert.deepEqual(tokenizer.encode(text), ids, text);
      assert.equal(tokenizer.decode(ids, false), text);
    }
    assert.equal(tokenizer.decode([1, 406, 270, 2], true), 'user');
  });

  it('decodes what it encoded', async () => {
    const tokenizer = await openTokenizer(TINY_BASE, MODEL);
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 30 }), (text) => {
        const ids = tokenizer.encode(text);
        assert.ok(ids.every((id) => id >= 0 && id < tokenizer.vocabSize));
        assert.equal(tokenizer.decode(ids, false), text);
      }),
    );
  });

  it('leaves spaces before punctuation, also where tokenizer_config.json says nothing of it', async () => {
    const text = "He said , 'yes' . Did n't he ?";
    for (const config of [{}, { clean_up_tokenization_spaces: null }]) {
      const tokenizer = await openTokenizer(await changed({}, config), MODEL);
      assert.equal(tokenizer.decode(tokenizer.encode(text), false), text);
    }
  });

  it('knows the special tokens of the model, from the tokenizer or else from the config', async () => {
    const own = await openTokenizer(TINY_BASE, { ...MODEL, eosTokenIds: [9], padTokenId: 8 });
    assert.deepEqual([own.eosTokenId, own.padTokenId, own.prefixIds], [0, 0, []]);
    const silent = await changed({}, {});
    const model = { ...MODEL, eosTokenIds: [9, 10], padTokenId: null };
    const fromModel = await openTokenizer(silent, model);
    assert.deepEqual([fromModel.eosTokenId, fromModel.padTokenId], [9, 9]);
    await rm(join(silent, 'tokenizer_config.json'));
    assert.equal((await openTokenizer(silent, model)).eosTokenId, 9);
    const object = await changed({}, { eos_token: { content: '<|im_end|>', special: true } });
    assert.equal((await openTokenizer(object, model)).eosTokenId, 2);
    await assert.rejects(
      openTokenizer(await changed({}, {}), { ...model, eosTokenIds: [] }),
      userError(/no end-of-text token is known; name it as "eos_token"/),
    );
  });

  it('finds what the tokenizer puts before a text', async () => {
    const template = (single: object[]): object => ({
      type: 'TemplateProcessing',
      single,
      pair: [],
      special_tokens: { s: { id: '<|im_start|>', ids: [1], tokens: ['<|im_start|>'] } },
    });
    const special = { SpecialToken: { id: '<|im_start|>', type_id: 0 } };
    const sequence = { Sequence: { id: 'A', type_id: 0 } };
    const before = await changed({ post_processor: template([special, sequence]) }, {});
    assert.deepEqual((await openTokenizer(before, MODEL)).prefixIds, [1]);
    const behind = await changed({ post_processor: template([sequence, special]) }, {});
    assert.deepEqual((await openTokenizer(behind, MODEL)).prefixIds, []);
  });

  it('decodes what follows other tokens with the space before its first word', async () => {
    const letters = Array.from('▁abcdefghijklmnopqrstuvwxyz<>/');
    const vocab = Object.fromEntries(
      ['<unk>', '<s>', '</s>', ...letters].map((token, id) => [token, id]),
    );
    const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
    const mark = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
    const fields = {
      ...{
        added_tokens: [],
        pre_tokenizer: null,
        model: { type: 'BPE', vocab, merges: [], unk_token: '<unk>' },
      },
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      decoder: { type: 'Sequence', decoders: [mark, { type: 'Fuse' }, strip] },
    };
    const dir = await changed(fields, { eos_token: '</s>' });
    const tokenizer = await openTokenizer(dir, { ...MODEL, vocabSize: 100 });
    const ids = tokenizer.encode('on');
    assert.equal(tokenizer.decode(ids, true), 'on');
    assert.equal(tokenizer.decodeContinuation(ids, true), ' on');
    assert.equal(tokenizer.decodeContinuation(tokenizer.encodeContinuation('on'), true), 'on');
    assert.equal(tokenizer.decodeContinuation([], true), '');
  });

  it('finds special tokens that tokenizer_config.json alone calls so', async () => {
    const text = await readFile(join(TINY_BASE, 'tokenizer.json'), 'utf8');
    const { model } = JSON.parse(text) as { model: { vocab: Record<string, number> } };
    const word = Object.entries(model.vocab).find(([token]) => /^[a-z]{5,}$/.test(token));
    assert.ok(word);
    const [token, id] = word;
    const config = { eos_token: '<|im_end|>', additional_special_tokens: [token] };
    const tokenizer = await openTokenizer(await changed({}, config), MODEL);
    assert.deepEqual(tokenizer.encode(`x${token}x`)[1], id);
    assert.equal(tokenizer.specialTokens.get(token), id);
    assert.equal(tokenizer.decode([id], true), '');
  });

  it('refuses the tokenizer of another model', async () => {
    await assert.rejects(
      openTokenizer(TINY_BASE, { ...MODEL, vocabSize: 4095 }),
      userError(
        /tokenizer.json has the token ".+" with id 4095, but the model's vocabulary ends at 4094: this tokenizer/,
      ),
    );
    assert.equal((await openTokenizer(TINY_BASE, { ...MODEL, vocabSize: 5000 })).vocabSize, 4096);
  });

  it('takes added tokens beyond the vocabulary, as long as no text has them', async () => {
    const added = { id: 5000, content: '<pad>', special: true };
    const config = { eos_token: '<|im_end|>', pad_token: '<pad>' };
    const text = await readFile(join(TINY_BASE, 'tokenizer.json'), 'utf8');
    const { added_tokens } = JSON.parse(text) as { added_tokens: object[] };
    const dir = await changed({ added_tokens: [...added_tokens, added] }, config);
    const tokenizer = await openTokenizer(dir, { ...MODEL, padTokenId: 7 });
    assert.deepEqual([tokenizer.vocabSize, tokenizer.padTokenId], [4096, 7]);
    const tokenise = (text: string): unknown =>
      tokeniseRecord({ kind: 'text', text, line: 3, endsDocument: true, splitKey: '' }, 'x.txt', {
        tokenizer,
        chatTemplate: null,
      });
    assert.doesNotThrow(() => tokenise('a pad of paper'));
    assert.throws(
      () => tokenise('secret <pad> of paper'),
      userError(
        /^x.txt, line 3: has the token "<pad>" with id 5000, but the model's vocabulary ends at 4095: take it out/,
      ),
    );
    const roomy = await openTokenizer(dir, { ...MODEL, vocabSize: 5001 });
    assert.deepEqual([roomy.vocabSize, roomy.padTokenId], [5001, 5000]);
  });

  it('refuses a token beyond the vocabulary that every text needs', async () => {
    const added = { id: 5000, content: '<end>', special: true };
    const dir = await changed({ added_tokens: [added] }, { eos_token: '<end>' });
    await assert.rejects(
      openTokenizer(dir, MODEL),
      userError(/every text needs the token "<end>" with id 5000, .* ends at 4095: this tokenizer/),
    );
    assert.equal((await openTokenizer(dir, { ...MODEL, vocabSize: 5001 })).eosTokenId, 5000);
  });

  it('refuses files that are missing, damaged or of an unknown kind', async () => {
    await assert.rejects(
      openTokenizer(await scratch.directory(), MODEL),
      userError(/tokenizer.json \(the tokenizer\) does not exist/),
    );
    const dir = await scratch.directory();
    const whole = await readFile(join(TINY_BASE, 'tokenizer.json'), 'utf8');
    await writeFile(join(dir, 'tokenizer.json'), whole.slice(0, 100_000));
    await assert.rejects(openTokenizer(dir, MODEL), userError(/tokenizer.json is not valid JSON/));
    await assert.rejects(
      openTokenizer(await changed({ model: { type: 'Magic' } }, {}), MODEL),
      userError(/is not a tokenizer that can be used here \(.*\): get the model's own/),
    );
    await assert.rejects(
      openTokenizer(await changed({ model: null }, {}), MODEL),
      userError(/field "model" is null, but must be a JSON object/),
    );
    await assert.rejects(
      openTokenizer(await changed({}, { eos_token: 5 }), MODEL),
      userError(/tokenizer_config.json: field "eos_token" is 5/),
    );
  });
});
