/** What a test file here begins with: a network, a folder, and commands that run in them. All of it is gone at its end. */
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import type { CommandLine } from '../net/command-line.js';
import { Network, type Machine } from './namespaces.js';

export interface SetUp {
  network: Network;
  /** A folder for data; that of a command has its data directory in it. */
  place: string;
  /** Starts a verb on `machine` with the data directory `name`. */
  launch: (machine: Machine, name: string, ...args: string[]) => CommandLine;
}

/** To be called once, outside of all tests; `label` as Network has it. */
export function setUp(label: string): SetUp {
  const network = new Network(label);
  const place = mkdtempSync(join(tmpdir(), `murmurate-${label}-`));
  const started: CommandLine[] = [];
  after(async () => {
    for (const command of started) await command.dispose();
    await network.close();
    await rm(place, { recursive: true, force: true });
  });
  const launch: SetUp['launch'] = (machine, name, ...args) => {
    const command = machine.launch(...args, '--dir', join(place, name));
    started.push(command);
    return command;
  };
  return { network, place, launch };
}
