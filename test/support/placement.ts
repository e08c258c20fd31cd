/** Which provider of ONNX Runtime computed each node of a graph, read from the profiles that it wrote. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Executor } from '../../node/engine/executor.js';
import { ortExecutor, type OrtOptions } from '../../node/engine/ort.js';

/** Nodes that ran, by provider and operator: "CPUExecutionProvider" -> "Reshape" -> how many. */
export type Placement = ReadonlyMap<string, ReadonlyMap<string, number>>;

interface ProfileEvent {
  cat?: string;
  name?: string;
  args?: { provider?: string; op_name?: string };
}

/** Where the nodes ran of all graphs that `use` compiles, runs and disposes. */
export async function placementOf(
  options: Omit<OrtOptions, 'profile'>,
  use: (executor: Executor) => Promise<void>,
): Promise<Placement> {
  const folder = mkdtempSync(join(tmpdir(), 'murmurate-placement-'));
  try {
    await use(ortExecutor({ ...options, profile: join(folder, 'profile') }));
    const files = readdirSync(folder);
    if (files.length === 0) throw new Error('no graph was disposed, so there is no profile');
    const events = files.flatMap(
      (file) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as ProfileEvent[],
    );
    return countNodes(events);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Each node once, however often it ran. */
function countNodes(events: readonly ProfileEvent[]): Placement {
  const seen = new Set<string>();
  const counts = new Map<string, Map<string, number>>();
  for (const { cat, name = '', args } of events) {
    if (cat !== 'Node' || !args?.provider || !args.op_name || seen.has(name)) continue;
    seen.add(name);
    const ofProvider = counts.get(args.provider) ?? new Map<string, number>();
    ofProvider.set(args.op_name, (ofProvider.get(args.op_name) ?? 0) + 1);
    counts.set(args.provider, ofProvider);
  }
  return counts;
}

/** The operators that the CPU computed instead of the device, "3 Reshape, 1 Split"; "" for none. */
export function leftToCpu(placement: Placement): string {
  const nodes = placement.get('CPUExecutionProvider') ?? new Map<string, number>();
  return [...nodes].map(([operator, count]) => `${count} ${operator}`).join(', ');
}

/** How many nodes `provider` computed. */
export function nodesOn(placement: Placement, provider: string): number {
  return [...(placement.get(provider) ?? [])].reduce((sum, [, count]) => sum + count, 0);
}
