/** What is looked up now and then: the adapter's fingerprint, reachability, privacy, and this peer itself. */
import { Bar, Panel } from './parts.js';
import * as words from './words.js';
import type { StatusReport } from '../../status.js';

export function Adapter({ report: { adapter } }: { report: StatusReport }) {
  return (
    <Panel
      id="adapter"
      title="The shared adapter"
      about="What all have learned, as a small addition to the model. The same fingerprint at another member means: the same adapter, bit for bit."
    >
      <p class="fingerprint" title={adapter.sha256}>
        {words.fingerprint(adapter.sha256)}
      </p>
      <p>
        {adapter.updates === 0
          ? 'No update yet: it changes nothing so far.'
          : `${words.count(adapter.updates, 'update', 'updates')}, the newest of epoch ${adapter.epoch}.`}
      </p>
    </Panel>
  );
}

export function Reachability({ report }: { report: StatusReport }) {
  const { state, evidence, relays, fix } = report.reachability;
  const [label, meaning] = words.REACH[state];
  return (
    <Panel
      id="reach"
      title="Can others reach this peer?"
      about="One member that can be reached is enough for all to work together."
    >
      <p>
        <b>{label}.</b> {meaning}
      </p>
      <p class="about long">
        Seen by: {evidence}.
        {relays.length > 0 && ` Relays: ${relays.map(words.shortId).join(', ')}.`}
      </p>
      {fix !== null && (
        <p>
          <b>To change that:</b> {fix}.
        </p>
      )}
    </Panel>
  );
}

export function Privacy({ privacy }: { privacy: NonNullable<StatusReport['privacy']> }) {
  const { epsilon, epsilonMax, delta, stepsLeft, noise } = privacy;
  return (
    <Panel
      id="privacy"
      title="Privacy budget"
      about="Noise hides each of your records. What all steps together may give away is bounded: learning stops before."
      columns={2}
    >
      <p>
        <b>{words.number(epsilon)}</b> of {words.number(epsilonMax)} spent (epsilon, at delta{' '}
        {words.number(delta, 2)}; noise {words.number(noise)})
      </p>
      <Bar share={epsilon / Math.max(epsilonMax, 1e-9)} colour="training" />
      <p class="about">{words.count(stepsLeft, 'step', 'steps')} of learning left</p>
    </Panel>
  );
}

export function ThisPeer({ report }: { report: StatusReport }) {
  const { peerId, addresses, run, training, version, uptimeSeconds } = report;
  return (
    <Panel
      id="peer"
      title="This peer"
      about="Hand on one of the addresses so that others can join."
      columns={report.privacy === null ? 2 : 3}
    >
      <dl class="facts">
        <dt>Peer id</dt>
        <dd>
          <code>{peerId}</code>
        </dd>
        <dt>Addresses</dt>
        <dd>
          {addresses.map((address) => (
            <code key={address}>{address}</code>
          ))}
        </dd>
        <dt>Run</dt>
        <dd>
          <code>{run.id}</code>
        </dd>
        <dt>Base model</dt>
        <dd>{run.model}</dd>
        <dt>Device</dt>
        <dd>{training.device}</dd>
        <dt>Learned so far</dt>
        <dd>
          {words.number(training.tokens, 12)} tokens in {words.number(training.step, 12)} steps
        </dd>
        <dt>Running</dt>
        <dd>
          {words.duration(uptimeSeconds)}, Murmurate {version}
        </dd>
      </dl>
    </Panel>
  );
}
