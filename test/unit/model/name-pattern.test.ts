import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { namePattern } from '../../../node/model/name-pattern.js';

const NAMES = [
  'model.layers.0.self_attn.q_proj',
  'model.layers.10.self_attn.q_proj',
  'model.layers.1.mlp.up_proj',
  'transformer.h.3.attn.c_attn',
  'lm_head',
  'q_proj',
  'my_q_proj',
];

describe('a pattern of module names', () => {
  it('matches as the regular expression that PEFT makes of it', () => {
    const patterns = [
      'q_proj',
      'self_attn.q_proj',
      'self_attn\\.q_proj',
      '0.self_attn.q_proj',
      '^q_proj',
      '^model.layers.0.self_attn.q_proj',
      '.*q_proj',
      '.*\\.q_proj',
      '.*mlp.*',
      '.*\\.(q|k|up)_proj',
      'layers\\.(?:0|1)\\..*',
      'layers\\.[0-9]\\..*proj',
      'layers\\.[^0]+\\..*proj',
      'layers\\.\\d{1,2}\\.(self_attn|mlp)\\.\\w+',
      'layers\\.\\d{2}\\..*?',
      '(a|b*)*lm_head$',
      '[a-z_]+',
      'h\\.[0-3]\\.attn\\.c_attn',
      'x{0,3}q_proj',
      '',
    ];
    for (const pattern of patterns) {
      const wanted = new RegExp(`^(.*\\.)?(${pattern})$`);
      for (const name of NAMES) {
        assert.equal(namePattern(pattern)?.(name), wanted.test(name), `${pattern} ${name}`);
      }
    }
  });

  it('of arbitrary parts agrees with the regular expression', () => {
    const part = fc.constantFrom(
      'a',
      'b',
      '.',
      '\\.',
      'a*',
      'b+',
      'a?',
      '(a|b)',
      '(ab)*',
      '[ab]',
      '[^a]',
      'a{1,2}',
      '$',
      '^',
    );
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 6 }).map((parts) => parts.join('')),
        fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 }),
        (pattern, name) => {
          const wanted = new RegExp(`^(.*\\.)?(${pattern})$`).test(name);
          assert.equal(namePattern(pattern)?.(name), wanted);
        },
      ),
      { numRuns: 500 },
    );
  });

  it('that asks for more is not known, and none takes long', () => {
    for (const pattern of [
      '(?=a)',
      '(?i)a',
      '\\bq',
      '(a)\\1',
      'a**',
      '(',
      '[a',
      'a{200}',
      '*',
      'a'.repeat(1_001),
      '(a{100}){100}',
    ]) {
      assert.equal(namePattern(pattern), null, pattern.slice(0, 20));
    }
    const startMs = performance.now();
    const test = namePattern('(a+)+(.*)*(.*)*(.*)*(a|aa)+x');
    assert.equal(test?.('a'.repeat(5_000)), false);
    assert.ok(performance.now() - startMs < 5_000);
  });
});
