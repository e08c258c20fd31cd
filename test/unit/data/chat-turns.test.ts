import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ChatMessage, ChatTemplate } from '../../../node/data/chat-template.js';
import { trainedTurns, withKnownRoles } from '../../../node/data/chat-turns.js';
import { userError } from '../model/fixtures.js';

const turn = (role: string, more: object = {}): ChatMessage => ({ role, content: 'x', ...more });

function naming(...roles: string[]): ChatTemplate {
  return {
    render: () => '',
    renderMarked: () => ({ text: '', generated: null }),
    names: (role) => roles.includes(role),
  };
}

describe('which turns are trained', () => {
  it("are the assistant's, but for those that say no, and others that say yes", () => {
    const messages = [
      ...[turn('user'), turn('assistant'), turn('assistant', { weight: 0 })],
      ...[turn('assistant', { train: false }), turn('assistant', { loss_mask: 1 })],
      ...[
        turn('user', { trainable: true }),
        turn('user', { weight: 1 }),
        turn('assistant', { loss: false }),
      ],
    ];
    assert.deepEqual(trainedTurns(messages), [1, 4, 5]);
  });

  it('have no weight between 0 and 1', () => {
    assert.throws(
      () => trainedTurns([turn('user'), turn('assistant', { weight: 0.5 })]),
      userError(/^turn 2: "weight" is 0.5, but must be 0 or 1/),
    );
  });
});

describe('roles', () => {
  it('are taken where the template names them, and stand for others where it does not', () => {
    const messages = [turn('developer'), turn('function'), turn('tool')];
    const roles = (template: ChatTemplate): string[] =>
      withKnownRoles(messages, template, false).map(({ role }) => role);
    assert.deepEqual(roles(naming()), ['system', 'tool', 'tool']);
    assert.deepEqual(roles(naming('developer', 'function')), ['developer', 'function', 'tool']);
  });

  it('are refused by name otherwise, unless that is accepted', () => {
    const messages = [turn('user'), turn('narrator')];
    assert.throws(
      () => withKnownRoles(messages, naming(), false),
      userError(/^turn 2: has the role "narrator", .* --accept-roles/),
    );
    assert.deepEqual(withKnownRoles(messages, naming(), true), messages);
    assert.deepEqual(withKnownRoles(messages, naming('narrator'), false), messages);
  });
});
