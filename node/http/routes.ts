/** What a file of routes gets: the app, and the peer that it shows. */
import type { Hono } from 'hono';
import type { Registry } from 'prom-client';
import type { HistoryRow } from '../history.js';
import type { StatusReport } from '../status.js';

/** A peer as the server sees it. */
export interface PeerView {
  /** Null while the peer is not ready. */
  status(): StatusReport | null;
  /** Epochs that are over, oldest first; another array whenever something changed. */
  history(): readonly HistoryRow[];
  /** What others measure, for GET /metrics. */
  registries(): readonly Registry[];
}

/** Adds routes to the app; what it opens ends when `closed` aborts. */
export type Routes = (app: Hono, peer: PeerView, closed: AbortSignal) => void;
