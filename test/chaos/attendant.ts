/**
 * Runs in the network namespace of one peer, beside it: asks its status server, which listens on that
 * namespace's loopback only, and is the long line of a peer that is far away.
 */
import { z } from 'zod';
import { delayProxy } from './delay-proxy.js';

/** A frozen peer does not answer; nobody waits for it longer than this, in ms. */
const ANSWER_MS_MAX = 3_000;

/** argv[2]. */
export const lineSchema = z.object({
  delayMs: z.number().nonnegative(),
  routes: z.array(
    z.object({ listenPort: z.number(), host: z.string(), port: z.number(), from: z.string() }),
  ),
});
export type Line = z.infer<typeof lineSchema>;

/** A question of the program that started this one, and the answer: null when there is none. */
export const questionSchema = z.object({ id: z.number(), url: z.string() });
export const answerSchema = z.object({ id: z.number(), text: z.string().nullable() });

async function textAt(url: string): Promise<string | null> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS_MAX) });
    return response.ok ? await response.text() : null;
  } catch {
    return null;
  }
}

// Only as the program itself: others import the schemas.
if (process.send !== undefined && process.argv[2] !== undefined) {
  const { delayMs, routes } = lineSchema.parse(JSON.parse(process.argv[2]));
  process.on('disconnect', () => process.exit());
  // Ctrl-C is for whoever started this: it still asks a few things.
  process.on('SIGINT', () => undefined);
  process.on('message', (message) => {
    const { id, url } = questionSchema.parse(message);
    void textAt(url).then((text) =>
      process.send?.({ id, text } satisfies z.infer<typeof answerSchema>),
    );
  });
  for (const route of routes) await delayProxy(route, delayMs);
  process.send({ id: 0, text: null } satisfies z.infer<typeof answerSchema>);
}
