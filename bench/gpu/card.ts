/** What NVIDIA's driver says of the card: its name, and how much of its memory is taken. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const SAMPLE_MS = 250;
const QUERY_MS_MAX = 5_000;

async function query(field: string): Promise<string | null> {
  const args = [`--query-gpu=${field}`, '--format=csv,noheader,nounits'];
  try {
    const { stdout } = await run('nvidia-smi', args, { timeout: QUERY_MS_MAX });
    return stdout.trim().split('\n')[0] ?? null;
  } catch {
    return null;
  }
}

/** E.g. "NVIDIA L4, driver 550.54"; null without one. */
export async function describeCard(): Promise<string | null> {
  const line = await query('name,driver_version,memory.total');
  return line === null ? null : `${line.split(', ').join(', ')} MiB`;
}

async function takenMb(): Promise<number | null> {
  const text = await query('memory.used');
  return text === null ? null : Number(text);
}

/** Looks now and then, from its start to `stop`. */
export class CardMemory {
  private most: number | null = null;
  private timer: NodeJS.Timeout | undefined;

  private constructor(private readonly before: number | null) {}

  static async start(): Promise<CardMemory> {
    const memory = new CardMemory(await takenMb());
    if (memory.before !== null) memory.look();
    return memory;
  }

  /** MiB that were taken at most, beyond those before; null without a card. */
  stop(): number | null {
    clearTimeout(this.timer);
    this.timer = undefined;
    return this.most === null || this.before === null ? null : this.most - this.before;
  }

  private look(): void {
    this.timer = setTimeout(() => {
      void takenMb().then((taken) => {
        this.most = Math.max(this.most ?? 0, taken ?? 0);
        if (this.timer !== undefined) this.look();
      });
    }, SAMPLE_MS);
  }
}
