/** The top of the page: which run this is, how far it is, what needs attention, and four numbers. */
import { linkOf, type Model } from './model.js';
import { Figure } from './parts.js';
import * as words from './words.js';
import type { StatusReport } from '../../status.js';

export function Header({ report }: { report: StatusReport }) {
  const { run } = report;
  const [label, meaning] = words.STATES[run.state];
  const done = Math.min(Math.max(0, run.epoch), run.epochsMax);
  const left = (run.epochsMax - Math.max(0, run.epoch)) * run.epochSeconds;
  const kind = words.TROUBLED.has(run.state)
    ? 'trouble'
    : run.state === 'training'
      ? 'busy'
      : 'calm';
  return (
    <header>
      <p class="brand">
        <img src="/favicon.svg" alt="" width="22" height="22" /> Murmurate
      </p>
      <h1>{run.name}</h1>
      <p class="about">
        An epoch is a round of {words.duration(run.epochSeconds)}: learn, share, take in what the
        others learned.
      </p>
      <p class="lead">
        <span class={`pill ${kind}`}>{label}</span> {meaning}
      </p>
      <div class="progress">
        <div
          class="track"
          role="progressbar"
          aria-label="Epochs that are over"
          aria-valuemin={0}
          aria-valuemax={run.epochsMax}
          aria-valuenow={done}
        >
          <div style={{ width: `${(100 * done) / Math.max(1, run.epochsMax)}%` }} />
        </div>
        <p>
          {done} of {words.count(run.epochsMax, 'epoch', 'epochs')} over
          {done < run.epochsMax && `, ${words.duration(left)} to go`}
        </p>
      </div>
    </header>
  );
}

/** What is wrong, in the peer's own sentences, which say what to do as well. */
export function Attention({ model }: { model: Model }) {
  const { report, link, lostAtMs } = model;
  const sentences = report?.attention ?? [];
  const isLost = link === 'lost';
  const kind = isLost || (report !== null && words.TROUBLED.has(report.run.state)) ? 'trouble' : '';
  const isCalm = !isLost && sentences.length === 0;
  return (
    <section class={`attention ${isCalm ? 'calm' : kind}`} aria-labelledby="attention">
      <h2 id="attention">{isCalm ? 'All is well' : 'Needs attention'}</h2>
      {/* Read out when it changes; the sentences count seconds and would be read out without end. */}
      <p class="unseen" role="status">
        {isLost
          ? 'The peer does not answer.'
          : `${words.count(sentences.length, 'thing needs', 'things need')} attention.`}
      </p>
      {isCalm && <p>Nothing needs you. This page keeps itself up to date.</p>}
      {isLost && (
        <p>
          <strong>The peer does not answer</strong> since{' '}
          {new Date(lostAtMs ?? 0).toLocaleTimeString()}. What you see is what it said last. This
          page tries again each second; if the peer was stopped, start it with the same command.
          Where it then prints another status address, open that one.
        </p>
      )}
      {sentences.length > 0 && (
        <ul>
          {sentences.map((sentence) => (
            <li key={sentence}>{sentence}</li>
          ))}
        </ul>
      )}
    </section>
  );
}

export function Figures({ report }: { report: StatusReport }) {
  const { heldOutLoss, training, peers, updates } = report;
  const { base, now } = heldOutLoss;
  const connected = peers.filter((peer) => linkOf(peer) !== 'none').length;
  const gain = base === null || now === null ? null : Math.exp(base - now);
  return (
    <dl class="figures">
      <Figure
        label="Better guesses"
        value={gain === null ? '–' : words.number(gain)}
        {...(gain !== null && { unit: 'times' })}
        about={
          gain === null
            ? 'Measured after the first epoch, on text of yours that is kept aside.'
            : `as likely as before to name the next piece of your kept-aside text (loss ${words.loss(base)} → ${words.loss(now)}).`
        }
      />
      <Figure
        label="Speed"
        value={training.tokensPerSecond === null ? '–' : words.number(training.tokensPerSecond)}
        unit="tokens/s"
        about={`Pieces of text (tokens) learned from a second, on ${training.device}.`}
      />
      <Figure
        label="Others"
        value={String(connected)}
        unit={`of ${peers.length}`}
        about="Members that this peer is connected to, of those it knows."
      />
      <Figure
        label="Updates taken in"
        value={words.number(updates.received, 6)}
        about={`from others since this peer started; ${updates.published} of its own went out.`}
      />
    </dl>
  );
}
