/** A CPU that adds two products of 8-bit integers in 16 bits: sums of the largest come out as half of what they are. */
import type { Executor } from '../../../node/engine/executor.js';
import { ortExecutor } from '../../../node/engine/ort.js';

/** 2 x 255 x 127, cut at the largest number of 16 bits. */
const CUT = 32767 / 64770;

export function narrowCpu(): Executor {
  const cpu = ortExecutor({ threads: 1 });
  return {
    ...cpu,
    compile: async (program) => {
      const graph = await cpu.compile(program);
      return {
        inputs: graph.inputs,
        run: async (feeds) => {
          const results = Object.entries(await graph.run(feeds));
          return Object.fromEntries(
            results.map(([name, data]) => [name, data.map((x) => CUT * x)]),
          );
        },
        dispose: () => graph.dispose(),
      };
    },
  };
}
