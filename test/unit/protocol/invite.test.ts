import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { sha256, toHex } from '../../../protocol/bytes.js';
import { InvalidInviteError } from '../../../protocol/errors.js';
import {
  decodeInvite,
  encodeInvite,
  INVITE_PREFIX,
  type Invite,
} from '../../../protocol/invite.js';
import { INVITE_ADDRESSES_MAX, INVITE_LENGTH_MAX } from '../../../protocol/limits.js';
import { testIdentity } from '../../support/runs.js';

const hash = (label: string): Uint8Array => sha256(new TextEncoder().encode(label));
const invite: Invite = {
  runId: toHex(hash('run')),
  founder: testIdentity(0).peerId,
  addresses: ['/ip4/192.0.2.7/tcp/4001', '/dns4/relay.example/tcp/4002/p2p/x/p2p-circuit'],
  invitation: Uint8Array.from({ length: 78 }, (_, i) => i),
  signature: Uint8Array.from({ length: 64 }, (_, i) => 255 - i),
  secret: hash('secret'),
  swarmKey: hash('swarm'),
};

/** It must not be taken, and the sentence must not tell what is in it. */
function refused(text: string, why: RegExp): void {
  assert.throws(
    () => decodeInvite(text),
    (error) => {
      assert.ok(error instanceof InvalidInviteError && error.cause === undefined);
      assert.match(error.message, why);
      const body = text.slice(INVITE_PREFIX.length);
      assert.ok(body.length < 8 || !error.message.includes(body.slice(0, 8)), error.message);
      return true;
    },
  );
}

describe('an invite', () => {
  it('is one line that says it all, with and without a swarm key', () => {
    for (const each of [invite, { ...invite, swarmKey: null }]) {
      const text = encodeInvite(each);
      assert.match(text, /^murmurate1[1-9A-HJ-NP-Za-km-z]+$/);
      assert.deepEqual(decodeInvite(` ${text}\n`), each);
    }
    assert.ok(encodeInvite(invite).length < 600);
  });

  it('is refused when one character was lost, changed or added', () => {
    const text = encodeInvite(invite);
    for (let i = INVITE_PREFIX.length; i < text.length; i += 13) {
      const other = text[i] === 'a' ? 'b' : 'a';
      refused(text.slice(0, i) + other + text.slice(i + 1), /checksum/);
      refused(text.slice(0, i) + text.slice(i + 1), /checksum/);
    }
    refused(`${text}0`, /base58/);
    refused(INVITE_PREFIX, /checksum/);
    refused(`murmurate2${text.slice(INVITE_PREFIX.length)}`, /another version/);
  });

  it('is bounded in length and addresses, and has fields of the right length', () => {
    refused(INVITE_PREFIX + 'a'.repeat(INVITE_LENGTH_MAX), /characters/);
    const many = Array.from(
      { length: INVITE_ADDRESSES_MAX + 3 },
      (_, i) => `/ip4/192.0.2.7/tcp/${i}`,
    );
    const read = decodeInvite(encodeInvite({ ...invite, addresses: many }));
    assert.equal(read.addresses.length, INVITE_ADDRESSES_MAX);
    for (const change of [
      { addresses: [] },
      { secret: new Uint8Array(31) },
      { swarmKey: new Uint8Array(33) },
      { signature: new Uint8Array(63) },
      { invitation: new Uint8Array(300) },
    ])
      refused(encodeInvite({ ...invite, ...change }), /out of its bounds/);
  });
});
