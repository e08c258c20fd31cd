import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ExchangeSlots } from '../../../node/net/exchange-slots.js';

const SLOW_MS = 2_000;

describe('ExchangeSlots', () => {
  const ended: string[] = [];
  const make = (slots: number, now = (): number => 0): ExchangeSlots => {
    ended.length = 0;
    return new ExchangeSlots(slots, SLOW_MS, now);
  };
  const enter = (slots: ExchangeSlots, origin: string): (() => void) | null =>
    slots.enter(origin, () => ended.push(origin));

  it('are taken and given back, in bounded number', () => {
    const slots = make(2);
    const leave = enter(slots, 'a');
    assert.ok(leave !== null && enter(slots, 'b') !== null);
    assert.equal(enter(slots, 'c'), null);
    leave();
    assert.ok(enter(slots, 'c') !== null);
    assert.deepEqual(ended, []);
  });

  it('are given up by the origin that has most, and by nobody for its own origin', () => {
    const slots = make(4);
    for (let i = 0; i < 3; i++) enter(slots, 'crowd');
    enter(slots, 'other');
    assert.equal(enter(slots, 'crowd'), null);
    assert.ok(enter(slots, 'newcomer') !== null);
    assert.deepEqual(ended, ['crowd']);
    assert.ok(enter(slots, 'another') !== null);
    assert.equal(enter(slots, 'too many'), null, 'everybody has one');
  });

  it('are given up by those that take long, however many origins there are', () => {
    let nowMs = 0;
    const slots = make(3, () => nowMs);
    for (const origin of ['a', 'b', 'c']) enter(slots, origin);
    nowMs = SLOW_MS;
    assert.equal(enter(slots, 'd'), null);
    nowMs = SLOW_MS + 1;
    assert.ok(enter(slots, 'd') !== null);
    assert.deepEqual(ended, ['a']);
  });
});
