/** Peer ids against libp2p's, signatures against RFC 8032 and against what forgers try. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { base58btc } from 'multiformats/bases/base58';
import { fromHex } from '../../../protocol/bytes.js';
import { InvalidPeerIdError } from '../../../protocol/errors.js';
import {
  peerIdFromPublicKey,
  publicKeyFromPeerId,
  verifySignature,
} from '../../../protocol/identity.js';
import { AUTHORS_MAX } from '../../../protocol/limits.js';
import { testIdentity } from '../../support/runs.js';

/** Public keys with the peer ids that libp2p gives them. */
const LIBP2P = [
  [
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '12D3KooWQK1wnefoLrcVHbbnf5tLzbopUd3K3bFAoJpA7YJgL5pV',
  ],
  [
    '1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e',
    '12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq',
  ],
] as const;

/** RFC 8032, 7.1: public key, message, signature of tests 1 and 2. */
const RFC8032 = [
  [
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '',
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  ],
  [
    '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    '72',
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ],
] as const;

/** Order of the group of Ed25519. */
const L = 2n ** 252n + 27742317777372353535851937790883648493n;

const keys = fc.uint8Array({ minLength: 32, maxLength: 32 });
const isPeerIdError = { name: 'InvalidPeerIdError' } satisfies Partial<InvalidPeerIdError>;

describe('peer ids', () => {
  it('are those of libp2p', () => {
    for (const [key, peerId] of LIBP2P) {
      assert.equal(peerIdFromPublicKey(fromHex(key)), peerId);
      assert.deepEqual(publicKeyFromPeerId(peerId), fromHex(key));
    }
  });

  it('give back every key, in 52 characters', () => {
    fc.assert(
      fc.property(keys, (key) => {
        const peerId = peerIdFromPublicKey(key);
        assert.match(peerId, /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/);
        assert.deepEqual(publicKeyFromPeerId(peerId), key);
      }),
    );
  });

  it('are made from 32 bytes only', () => {
    for (const length of [0, 31, 33, 64]) {
      assert.throws(() => peerIdFromPublicKey(new Uint8Array(length)), isPeerIdError);
    }
  });

  it('of other kinds, and other text, are refused with a typed error', () => {
    const prefixed = (...prefix: number[]): string =>
      base58btc.baseEncode(Uint8Array.from([...prefix, ...new Uint8Array(32)]));
    const wrong = [
      '',
      '0OIl',
      'not base58!',
      LIBP2P[0][1].slice(0, -1),
      `${LIBP2P[0][1]}1`,
      '1'.repeat(65),
      // SHA-256 of an RSA key; secp256k1; an identity multihash of another length; a bare hash.
      'QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
      prefixed(0x00, 0x24, 0x08, 0x02, 0x12, 0x20),
      prefixed(0x00, 0x25, 0x08, 0x01, 0x12, 0x20),
      prefixed(0x12, 0x20),
    ];
    for (const text of wrong) {
      assert.throws(() => publicKeyFromPeerId(text), isPeerIdError, `"${text}"`);
    }
  });

  it('are refused, however long the text, without decoding it', () => {
    // Decoding base58 takes quadratic time: for this text minutes.
    assert.throws(() => publicKeyFromPeerId('z'.repeat(5_000_000)), /too long/);
  });

  it('from arbitrary text end in a key or in an InvalidPeerIdError', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.base64String(), fc.string({ maxLength: 90 })),
        (text) => {
          try {
            assert.equal(peerIdFromPublicKey(publicKeyFromPeerId(text)), text);
          } catch (error) {
            assert.ok(error instanceof InvalidPeerIdError);
          }
        },
      ),
    );
  });
});

describe('verifySignature()', () => {
  it('agrees with RFC 8032', () => {
    for (const [key, message, signature] of RFC8032) {
      const peerId = peerIdFromPublicKey(fromHex(key));
      assert.ok(verifySignature(peerId, fromHex(message), fromHex(signature)));
      assert.ok(!verifySignature(peerId, Uint8Array.of(1), fromHex(signature)));
    }
  });

  it('refuses another author, message or signature, and signatures of another length', () => {
    const [a, b] = [testIdentity(0), testIdentity(1)];
    const message = Uint8Array.of(1, 2, 3);
    const signature = a.sign(message);
    assert.ok(verifySignature(a.peerId, message, signature));
    assert.ok(!verifySignature(b.peerId, message, signature));
    assert.ok(!verifySignature(a.peerId, message.subarray(1), signature));
    for (let i = 0; i < signature.length; i++) {
      const forged = Uint8Array.from(signature, (byte, j) => (i === j ? byte ^ 1 : byte));
      assert.ok(!verifySignature(a.peerId, message, forged), `byte ${i}`);
    }
    for (const length of [0, 63, 65]) {
      assert.ok(!verifySignature(a.peerId, message, new Uint8Array(length)));
    }
  });

  it('refuses S + L in place of S: nobody but the author makes a second signature', () => {
    const author = testIdentity(0);
    const message = Uint8Array.of(7);
    const signature = author.sign(message);
    let s = L;
    for (const [i, byte] of signature.subarray(32).entries()) s += BigInt(byte) << BigInt(8 * i);
    const forged = signature.slice();
    for (let i = 0; i < 32; i++) forged[32 + i] = Number((s >> BigInt(8 * i)) & 0xffn);
    assert.ok(!verifySignature(author.peerId, message, forged));
  });

  it('is false, and does not throw, for keys that are no point of the curve', () => {
    const message = Uint8Array.of(7);
    const signature = testIdentity(0).sign(message);
    fc.assert(
      fc.property(keys, (key) => {
        assert.ok(!verifySignature(peerIdFromPublicKey(key), message, signature));
      }),
    );
  });

  it('still verifies when more authors than the cache holds took turns', () => {
    const message = Uint8Array.of(1);
    const first = testIdentity(0);
    for (let i = 0; i < AUTHORS_MAX + 2; i++) {
      const key = new Uint8Array(32).fill(1);
      new DataView(key.buffer).setUint32(0, i);
      assert.ok(!verifySignature(peerIdFromPublicKey(key), message, new Uint8Array(64)));
    }
    assert.ok(verifySignature(first.peerId, message, first.sign(message)));
  });
});
