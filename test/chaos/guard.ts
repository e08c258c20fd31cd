/**
 * Cleans up after a chaos run, whatever became of it: a process of its own waits until the pipe from the run
 * breaks, which it does at the end, on Ctrl-C, on a crash and on kill -9.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

/** $1: how the names of the namespaces begin; $2: the scratch directory, whose folders may be mounts. */
const SCRIPT = `
cat > /dev/null
names=$(ip netns list | cut -d ' ' -f 1 | grep "^$1")
for name in $names; do ip netns pids "$name" | xargs -r kill -KILL 2> /dev/null; done
for name in $names; do ip netns delete "$name"; done
for place in "$2"/*/; do mountpoint -q "$place" && umount --lazy "$place"; done
rm -rf "$2"
`;

export interface Guard {
  /** Ends every process in the namespaces, deletes them and the scratch directory. May be called twice. */
  cleanUp(): Promise<void>;
}

export function startGuard(namespacePrefix: string, scratch: string): Guard {
  const child = spawn('sh', ['-c', SCRIPT, 'guard', namespacePrefix, scratch], {
    // A session of its own: Ctrl-C is not for it.
    detached: true,
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  const ended = once(child, 'exit');
  return {
    async cleanUp() {
      child.stdin.end();
      await ended;
    },
  };
}
