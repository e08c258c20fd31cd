/** What the turns of a conversation say about themselves: who speaks, and whether to train on it. */
import { UserError } from '../errors.js';
import { ExactNumber } from './exact-json.js';
import type { ChatMessage, ChatTemplate } from './chat-template.js';

/** Fields that say whether a turn is trained, as Axolotl, ms-swift and others write them. */
const TRAIN_FIELDS = ['train', 'trainable', 'training', 'loss_mask', 'loss'] as const;

/** Roles that need not be named: templates that name none write any into the header. */
const COMMON_ROLES = ['system', 'user', 'assistant', 'tool'];

/** Roles that another one stands for where the template does not name them. */
const STAND_INS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    developer: 'system',
    function: 'tool',
    ipython: 'tool',
    observation: 'tool',
    model: 'assistant',
  }),
);

/**
 * Indices of the turns to train: the assistant's, without those that say no, and others that say yes. Throws
 * UserError for a weight that is neither 0 nor 1.
 */
export function trainedTurns(messages: readonly ChatMessage[]): number[] {
  return messages.flatMap((message, i) => {
    const flag = flagOf(message, i);
    return (flag ?? message.role === 'assistant') ? [i] : [];
  });
}

/** Null where the turn says nothing. */
function flagOf(message: ChatMessage, index: number): boolean | null {
  const { weight } = message;
  if (weight !== undefined && weight !== null && message.role === 'assistant') {
    return asSwitch(weight, 'weight', index);
  }
  for (const field of TRAIN_FIELDS) {
    const value = message[field];
    if (value === undefined || value === null) continue;
    return asSwitch(value, field, index);
  }
  return null;
}

function asSwitch(given: unknown, field: string, index: number): boolean {
  const value = given instanceof ExactNumber ? Number(given) : given;
  if (typeof value === 'boolean') return value;
  if (value === 0 || value === 1) return value === 1;
  throw new UserError(
    `turn ${index + 1}: "${field}" is ${typeof value === 'number' ? value : `a ${typeof value}`}, but must be 0 or 1, or false or true: a turn is trained or not`,
  );
}

/**
 * The messages with roles that the template knows. Throws UserError for others, unless `acceptRoles`: a template
 * that names no roles would write them into the text as they are.
 */
export function withKnownRoles(
  messages: readonly ChatMessage[],
  template: ChatTemplate,
  acceptRoles: boolean,
): ChatMessage[] {
  return messages.map((message, i) => {
    const { role } = message;
    if (COMMON_ROLES.includes(role) || template.names(role)) return message;
    const standIn = STAND_INS.get(role);
    if (standIn !== undefined) return { ...message, role: standIn };
    if (acceptRoles) return message;
    throw new UserError(
      `turn ${i + 1}: has the role "${role.slice(0, 40)}", which the model's chat template does not name: rename it to one of ${COMMON_ROLES.join(', ')}, or keep it with --accept-roles`,
    );
  });
}
