/** Who takes part: the list, with what each has sent. */
import { linkOf, type Member } from './model.js';
import { Panel } from './parts.js';
import * as words from './words.js';
import type { StatusReport } from '../../status.js';

/** Rows; a run has some dozens of members. */
const ROWS_MAX = 100;

/** Epochs that are named one by one. */
const EPOCHS_SHOWN = 3;

const LINKS = { direct: 'direct', relayed: 'through a relay', none: 'not connected' } as const;

export function Members({ report }: { report: StatusReport }) {
  const { peers } = report;
  return (
    <Panel
      id="members"
      title="Who takes part"
      about="Each member learns from its own text, which stays with it, and sends the others what it learned."
      columns={3}
    >
      {peers.length === 0 ? (
        <p class="empty">
          Nobody else yet. Give another person one of this peer’s addresses (below), and they join
          with <code>murmurate join</code>.
        </p>
      ) : (
        <MemberTable report={report} />
      )}
    </Panel>
  );
}

function MemberTable({ report }: { report: StatusReport }) {
  const { peers, run } = report;
  return (
    <div>
      <table class="stacked">
        <thead>
          <tr>
            <th scope="col">Member</th>
            <th scope="col">Connection</th>
            <th scope="col">Last update</th>
            <th scope="col">Same adapter</th>
            <th scope="col">Used</th>
            <th scope="col">Not used</th>
          </tr>
        </thead>
        <tbody>
          {peers.slice(0, ROWS_MAX).map((peer) => (
            <tr key={peer.peerId}>
              <th scope="row" title={peer.peerId}>
                <code>{words.shortId(peer.peerId)}</code>
              </th>
              <td data-label="Connection">{connectionOf(peer)}</td>
              <td data-label="Last update">{lastUpdateOf(peer, run.epoch)}</td>
              <td data-label="Same adapter">{agreementOf(peer)}</td>
              <td data-label="Used">{peer.updatesAccepted}</td>
              <td data-label="Not used">
                <Rejected peer={peer} filtered={filteredOf(report, peer)} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {peers.length > ROWS_MAX && <p class="about">and {peers.length - ROWS_MAX} more</p>}
    </div>
  );
}

function connectionOf(peer: Member): string {
  const latency = peer.latencyMs === null ? '' : `, ${words.number(peer.latencyMs)} ms`;
  return `${LINKS[linkOf(peer)]}${latency}`;
}

/** Two that compare their logs while updates are on their way differ for a moment. */
function agreementOf({ agreedSecondsAgo }: Member): string {
  if (agreedSecondsAgo === null) return 'not seen yet';
  return agreedSecondsAgo < 1 ? 'now' : `${words.duration(agreedSecondsAgo)} ago`;
}

function lastUpdateOf({ lastUpdateEpoch }: Member, epoch: number): string {
  if (lastUpdateEpoch === null) return 'none yet';
  const ago = epoch - lastUpdateEpoch;
  if (ago <= 0) return `epoch ${lastUpdateEpoch}, now`;
  return `epoch ${lastUpdateEpoch}, ${words.count(ago, 'epoch', 'epochs')} ago`;
}

/** Epochs in which the filter left out what this member sent, the newest first. */
function filteredOf({ filtered }: StatusReport, { peerId }: Member): number[] {
  return filtered.filter((one) => one.peerId === peerId).map(({ epoch }) => epoch);
}

function Rejected({ peer, filtered }: { peer: Member; filtered: readonly number[] }) {
  const entries = Object.entries(peer.rejected);
  if (entries.length === 0 && filtered.length === 0) return <>0</>;
  return (
    <ul>
      {filtered.length > 0 && (
        <li>
          {filtered.length} unlike most others (
          {filtered
            .slice(0, EPOCHS_SHOWN)
            .map((epoch) => `epoch ${epoch}`)
            .join(', ')}
          {filtered.length > EPOCHS_SHOWN && ', …'})
        </li>
      )}
      {entries.map(([code, times]) => (
        <li key={code}>
          {times} {words.rejectionInWords(code)}
        </li>
      ))}
    </ul>
  );
}
