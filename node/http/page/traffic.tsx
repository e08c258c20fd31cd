/** Bytes on the wire, beside what updates of plain numbers would have taken. */
import { Bar, Panel } from './parts.js';
import * as words from './words.js';
import type { StatusReport } from '../../status.js';

export function Traffic({ report }: { report: StatusReport }) {
  const { traffic, updates } = report;
  const { bytes, denseBytes } = updates;
  return (
    <Panel
      id="traffic"
      title="Data sent and received"
      about={`All bytes since this peer started, beside the updates alone as plain 32-bit numbers. An update has ${words.bytes(bytes)}, as plain numbers ${words.bytes(denseBytes)}.`}
    >
      <Direction
        label="Received"
        actual={traffic.bytesIn.total}
        dense={updates.received * denseBytes}
        what={words.count(updates.received, 'update', 'updates')}
      />
      <Direction
        label="Sent"
        actual={traffic.bytesOut.total}
        dense={updates.published * denseBytes}
        what={words.count(updates.published, 'update', 'updates')}
      />
      <details>
        <summary>What for</summary>
        <table>
          <thead>
            <tr>
              <th scope="col">For</th>
              <th scope="col">Received</th>
              <th scope="col">Sent</th>
            </tr>
          </thead>
          <tbody>
            {purposesOf(report).map((purpose) => (
              <tr key={purpose}>
                <th scope="row">{words.purposeInWords(purpose)}</th>
                <td>{words.bytes(traffic.bytesIn[purpose] ?? 0)}</td>
                <td>{words.bytes(traffic.bytesOut[purpose] ?? 0)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </Panel>
  );
}

function Direction(props: { label: string; actual: number; dense: number; what: string }) {
  const { label, actual, dense, what } = props;
  const most = Math.max(actual, dense, 1);
  const less = dense / Math.max(1, actual);
  return (
    <div class="direction">
      <h3>
        {label} {less >= 1.05 && <b>{words.number(less, 2)} times less</b>}
      </h3>
      <p>
        <span class="about">in all</span>
        <Bar share={actual / most} colour="swarm" />
        {words.bytes(actual)}
      </p>
      <p>
        <span class="about">plain</span>
        <Bar share={dense / most} colour="base" />
        {words.bytes(dense)}
      </p>
      <p class="about">{what}</p>
    </div>
  );
}

/** Those with bytes in either direction, most first. */
function purposesOf({ traffic: { bytesIn, bytesOut } }: StatusReport): string[] {
  const of = (purpose: string): number => (bytesIn[purpose] ?? 0) + (bytesOut[purpose] ?? 0);
  const names = new Set([...Object.keys(bytesIn), ...Object.keys(bytesOut)]);
  names.delete('total');
  return [...names].filter((name) => of(name) > 0).sort((a, b) => of(b) - of(a));
}
