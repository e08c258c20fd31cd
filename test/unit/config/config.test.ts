import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  choice,
  flagOf,
  integer,
  matching,
  orWord,
  parseValue,
  real,
  text,
} from '../../../node/config.js';
import { EXIT_USAGE, UserError } from '../../../node/errors.js';

describe('option types', () => {
  it('integer() takes every whole number within its bounds and none outside', () => {
    const type = integer('N', -5, 40);
    fc.assert(
      fc.property(fc.integer({ min: -100, max: 100 }), (value) => {
        const expected = value >= -5 && value <= 40 ? value : undefined;
        assert.equal(type.parse(String(value)), expected);
      }),
    );
  });

  it('integer() takes no fractions, exponents, blanks or hexadecimals', () => {
    for (const bad of [
      '',
      ' 3',
      '3 ',
      '3.0',
      '1e1',
      '0x10',
      'three',
      '3n',
      'NaN',
      '9007199254740993',
    ]) {
      assert.equal(integer('N', 0, Infinity).parse(bad), undefined, bad);
    }
  });

  it('real() takes decimals and exponents within its bounds, and neither NaN nor Infinity', () => {
    const type = real('X', 1e-9, 10);
    assert.equal(type.parse('4e-3'), 0.004);
    assert.equal(type.parse('.5'), 0.5);
    assert.equal(type.parse('10'), 10);
    for (const bad of ['10.001', '0', '-1', 'NaN', 'Infinity', '', '1,5', '0x1', '1e']) {
      assert.equal(type.parse(bad), undefined, bad);
    }
  });

  it('orWord() takes the word, or what the other type takes', () => {
    const type = orWord('off', integer('PORT', 0, 65535));
    assert.equal(type.parse('off'), 'off');
    assert.equal(type.parse('0'), 0);
    assert.equal(type.parse('on'), undefined);
    assert.equal(type.parse('65536'), undefined);
  });

  it('choice(), text() and matching() refuse everything else', () => {
    assert.equal(choice(['1', '2', '4']).parse('3'), undefined);
    assert.equal(choice(['1', '2', '4']).parse('4'), '4');
    assert.equal(text('NAME').parse(''), undefined);
    assert.equal(matching('N', /^a+$/, 'letters a').parse('ab'), undefined);
  });
});

describe('parseValue()', () => {
  it('names the flag, the value and the bound, and is wrong usage', () => {
    assert.throws(
      () => parseValue('epochSeconds', integer('SECONDS', 1, 900), '901'),
      (error) => {
        assert.ok(error instanceof UserError);
        assert.equal(error.exitCode, EXIT_USAGE);
        assert.equal(
          error.message,
          '--epoch-seconds is "901"; it must be a whole number from 1 to 900',
        );
        return true;
      },
    );
  });

  it('flagOf() writes names as flags', () => {
    assert.equal(flagOf('adamBeta1'), '--adam-beta1');
    assert.equal(flagOf('dir'), '--dir');
  });
});
