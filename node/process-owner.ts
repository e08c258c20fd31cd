/**
 * Which process made something on a disk, so that a later one can tell whether it is still at work: across reused process
 * ids, restarts of the machine, containers and machines that share the disk.
 */
import { readFile, readlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { z } from 'zod';
import { errnoOf } from './files.js';

const ownerSchema = z.object({
  pid: z.number().int().positive(),
  host: z.string(),
  /** Tells a process from a later one with the same pid; null where the system does not say. */
  processToken: z.string().nullable(),
});

/** A process, as it writes itself down. */
export type Owner = z.infer<typeof ownerSchema>;

/** This process. */
export async function thisProcess(): Promise<Owner> {
  const { pid } = process;
  return { pid, host: hostname(), processToken: await processToken(pid) };
}

/** What is written for `owner`: one line of JSON. */
export function encodeOwner(owner: Owner): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(owner)}\n`);
}

/** Null where it is not whole, or not ours. */
export function decodeOwner(bytes: Uint8Array): Owner | null {
  try {
    return ownerSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return null;
  }
}

/** 'unknown' where it cannot be asked: on another machine, in another container, before the last restart. */
export async function ownerState(owner: Owner): Promise<'alive' | 'dead' | 'unknown'> {
  if (owner.host !== hostname()) return 'unknown';
  if (owner.processToken !== null) {
    // Of another boot or container (two can have one host name): its pid says nothing here.
    const here = await processToken(process.pid);
    if (here === null || placeOf(here) !== placeOf(owner.processToken)) return 'unknown';
  }
  if (!processExists(owner.pid)) return 'dead';
  if (owner.processToken === null) return 'alive';
  return (await processToken(owner.pid)) === owner.processToken ? 'alive' : 'dead';
}

/** E.g. "process 4711 on anna". */
export function describeOwner({ pid, host }: Owner): string {
  return host === hostname() ? `process ${pid}` : `process ${pid} on ${host}`;
}

/** Boot and pid namespace of a token. */
function placeOf(token: string): string {
  return token.slice(0, token.lastIndexOf(' '));
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

/** Linux: boot, pid namespace and start time of a process (proc(5), /proc/pid/stat field 22). */
async function processToken(pid: number): Promise<string | null> {
  try {
    const boot = await readFile('/proc/sys/kernel/random/boot_id', 'utf8');
    const namespace = await readlink('/proc/self/ns/pid');
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // Field 2 is the command in brackets, which may hold spaces and brackets itself.
    const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return `${boot.trim()} ${namespace} ${startTime ?? ''}`;
  } catch {
    return null;
  }
}
