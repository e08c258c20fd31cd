/** Keeps the model as the peer tells it: server-sent events, again and again while they break off. */
import type { HistoryRow } from '../../history.js';
import type { StatusReport } from '../../status.js';
import type { Model } from './model.js';

/** The peer says something each second: without a word for so long, in ms, it is gone or the machine slept. */
const SILENCE_MS = 5_000;

/** Pause before it is asked again, in ms. */
const RETRY_MS = 1_000;

/** Calls `show` with each new model. Runs as long as the page. */
export function follow(show: (model: Model) => void): void {
  let model: Model = { link: 'connecting', lostAtMs: null, report: null, history: [] };
  let source: EventSource | null = null;
  let silence = 0;
  let retry = 0;
  const change = (fields: Partial<Model>): void => {
    model = { ...model, ...fields };
    show(model);
  };

  const lose = (): void => {
    stop();
    retry = window.setTimeout(connect, RETRY_MS);
    if (model.link !== 'lost') change({ link: 'lost', lostAtMs: Date.now() });
  };
  const heard = (): void => {
    window.clearTimeout(silence);
    silence = window.setTimeout(lose, SILENCE_MS);
  };
  const stop = (): void => {
    window.clearTimeout(silence);
    window.clearTimeout(retry);
    source?.close();
    source = null;
  };
  const connect = (): void => {
    stop();
    source = new EventSource('/events');
    source.onerror = lose;
    source.onopen = () => {
      heard();
      change({ link: model.report === null ? 'starting' : model.link });
    };
    source.addEventListener('starting', () => {
      heard();
      change({ link: 'starting', lostAtMs: null });
    });
    source.addEventListener('history', ({ data }: MessageEvent<string>) => {
      change({ history: JSON.parse(data) as HistoryRow[] });
    });
    source.addEventListener('status', ({ data }: MessageEvent<string>) => {
      heard();
      change({ link: 'live', lostAtMs: null, report: JSON.parse(data) as StatusReport });
    });
  };

  // A page that nobody sees asks for nothing.
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) stop();
    else connect();
  });
  show(model);
  connect();
}
