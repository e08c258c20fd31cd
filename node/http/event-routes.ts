/** GET /events: the state of the peer as server-sent events, `status` each second and `history` when it changed. */
import { EventFeed } from './event-feed.js';
import type { Routes } from './routes.js';

/** A page that was turned away tries again after so many seconds. */
const RETRY_SECONDS = 5;

export const eventRoutes: Routes = (app, peer, closed) => {
  const feed = new EventFeed(peer, closed);
  app.get('/events', (c) => {
    // Another site could not read the events, but its pages could take all the room that there is.
    if (!['same-origin', 'none'].includes(c.req.header('sec-fetch-site') ?? 'none')) {
      return c.text('Events are for the page of this peer only.\n', 403);
    }
    c.header('Content-Type', 'text/event-stream');
    // HEAD has no body that would end.
    if (c.req.method === 'HEAD') return c.body(null);
    const stream = feed.subscribe();
    if (stream === null) {
      c.header('Retry-After', String(RETRY_SECONDS));
      return c.text('Too many pages show this peer already: close one of them.\n', 503);
    }
    return c.body(stream);
  });
};
