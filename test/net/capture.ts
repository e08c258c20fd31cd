/**
 * Loaded into a process before the program (node --import): writes down whatever goes out over the network, at the
 * socket and, for connections of libp2p, before it is encrypted, into the directory that CAPTURE_DIR names. The
 * machine's and the user's name are the canaries of CAPTURE_HOST_NAME and CAPTURE_USER_NAME.
 */
import { ChaCha20Poly1305 } from '@chainsafe/as-chacha20poly1305';
import crypto from 'node:crypto';
import dgram from 'node:dgram';
import dns from 'node:dns';
import fs from 'node:fs';
import http from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

const { CAPTURE_DIR: dir = '', CAPTURE_HOST_NAME: host = '' } = process.env;
const { CAPTURE_USER_NAME: user = '' } = process.env;

/** What is sent in the clear or encrypted, before encryption, and a byte for each message that is encrypted. */
type Kind = 'sent' | 'plain' | 'messages';

type Method = (this: unknown, ...args: unknown[]) => unknown;

function record(kind: Kind, data: unknown): void {
  const bytes = bytesOf(data);
  if (bytes !== null) fs.appendFileSync(path.join(dir, `${process.pid}.${kind}`), bytes);
}

function bytesOf(data: unknown): Uint8Array | null {
  if (typeof data === 'string') return Buffer.from(data);
  return data instanceof Uint8Array ? data : null;
}

// Every message of noise goes through one of two implementations of one cipher.
const cipher = ChaCha20Poly1305.prototype;
const seal = Reflect.get(cipher, 'seal') as Method;
Reflect.set(cipher, 'seal', function (this: unknown, ...args: unknown[]): unknown {
  record('messages', '.');
  record('plain', args[2]);
  return seal.apply(this, args);
});
const createCipheriv = Reflect.get(crypto, 'createCipheriv') as Method;
Reflect.set(crypto, 'createCipheriv', (...args: unknown[]): unknown => {
  const made = createCipheriv.apply(crypto, args) as { update: Method };
  if (args[0] !== 'chacha20-poly1305') return made;
  record('messages', '.');
  const update = made.update.bind(made);
  made.update = (...data) => {
    record('plain', data[0]);
    return update(...data);
  };
  return made;
});

/** Whether what is written to `socket` goes to another program over TCP that is not asking for the status. */
function leaves(socket: net.Socket & { server?: unknown }): boolean {
  const isTcp = socket.remoteAddress !== undefined || socket.connecting;
  return isTcp && !(socket.server instanceof http.Server);
}

for (const name of ['write', 'end']) {
  const original = Reflect.get(net.Socket.prototype, name) as Method;
  Reflect.set(net.Socket.prototype, name, function (this: net.Socket, ...args: unknown[]): unknown {
    if (leaves(this)) record('sent', args[0]);
    return original.apply(this, args);
  });
}
const send = Reflect.get(dgram.Socket.prototype, 'send') as Method;
Reflect.set(dgram.Socket.prototype, 'send', function (this: unknown, ...args: unknown[]): unknown {
  for (const part of Array.isArray(args[0]) ? args[0] : [args[0]]) record('sent', part);
  return send.apply(this, args);
});
const lookup = Reflect.get(dns, 'lookup') as Method;
Reflect.set(dns, 'lookup', (...args: unknown[]): unknown => {
  record('sent', args[0]);
  return lookup(...args);
});

const userInfo = os.userInfo();
Object.assign(os, { hostname: () => host, userInfo: () => ({ ...userInfo, username: user }) });
syncBuiltinESMExports();
