/** The curves: how well the model does after each epoch, and how fast this machine is. */
import { useState } from 'preact/hooks';
import { Chart, type Line } from './chart.js';
import { lastEpochShown, lastOf, type Curves } from './curves.js';
import { Panel } from './parts.js';
import * as words from './words.js';
import type { StatusReport } from '../../status.js';

const LOSS_HEIGHT = 300;
const SPEED_HEIGHT = 190;

/** Rows of the table; a screen reader reads them one by one. */
const TABLE_ROWS_MAX = 200;

interface Curve extends Line {
  about: string;
  /** Only talked of once there is a value. */
  isOptional?: boolean;
}

function lossCurves({ base, swarm, training, personal }: Curves): Curve[] {
  return [
    {
      label: 'Base model',
      about: 'kept-aside text, before any learning',
      values: base,
      colour: '--base',
      width: 1.5,
      dash: [6, 5],
      isConstant: true,
    },
    {
      label: 'Training',
      about: 'this peer’s own text, while it learns',
      values: training,
      colour: '--training',
      width: 1.5,
    },
    {
      label: 'Swarm',
      about: 'kept-aside text, with what all have learned',
      values: swarm,
      colour: '--swarm',
      width: 3,
    },
    {
      label: 'Personal',
      about: 'kept-aside text, with that and then this peer’s own steps of one epoch',
      values: personal,
      colour: '--personal',
      width: 2,
      isOptional: true,
    },
  ];
}

export function Learning({ curves, report }: { curves: Curves; report: StatusReport }) {
  const [hovered, setHovered] = useState<number | null>(null);
  const lines = lossCurves(curves);
  const told = lines.filter(
    ({ isOptional, values }) => isOptional !== true || lastOf(values) !== null,
  );
  const epoch = hovered === null ? undefined : curves.epochs[hovered];
  const valueOf = (values: (number | null)[]): number | null =>
    epoch === undefined ? lastOf(values) : (values[hovered ?? 0] ?? null);
  const description = told
    .map(({ label, values }) => `${label}: ${words.loss(lastOf(values))}`)
    .join(', ');
  return (
    <Panel
      id="learning"
      title="What has been learned"
      about="Loss: how surprised the model is by a text, in nats a token. Lower is better."
      columns={3}
    >
      <ul class="legend">
        {told.map(({ label, about, values, colour }) => (
          <li key={label} class={colour.slice(2)}>
            <span class="name">{label}</span> <b>{words.loss(valueOf(values))}</b>
            <span class="about">{about}</span>
          </li>
        ))}
      </ul>
      <Chart
        description={`Loss after ${words.count(curves.epochs.length, 'epoch', 'epochs')}, newest values: ${description}`}
        epochs={curves.epochs}
        lines={lines}
        height={LOSS_HEIGHT}
        lastEpoch={lastEpochShown(curves, report.run.epochsMax)}
        onHover={setHovered}
      />
      <p class="axis">{epoch === undefined ? 'epoch' : `epoch ${epoch}`}</p>
      <LossTable curves={curves} lines={told} />
    </Panel>
  );
}

function LossTable({ curves, lines }: { curves: Curves; lines: readonly Curve[] }) {
  const first = Math.max(0, curves.epochs.length - TABLE_ROWS_MAX);
  return (
    <details>
      <summary>The same as a table</summary>
      <table>
        <thead>
          <tr>
            <th scope="col">Epoch</th>
            {lines.map(({ label }) => (
              <th scope="col" key={label}>
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {curves.epochs.slice(first).map((epoch, i) => (
            <tr key={epoch}>
              <th scope="row">{epoch}</th>
              {lines.map(({ label, values }) => (
                <td key={label}>{words.loss(values[first + i] ?? null)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

export function Speed({ curves, report }: { curves: Curves; report: StatusReport }) {
  const { tokensPerSecond } = curves;
  const line = { label: 'tokens/s', values: tokensPerSecond, colour: '--training', width: 2 };
  const newest = lastOf(tokensPerSecond);
  return (
    <Panel
      id="speed"
      title="Speed"
      about="Pieces of text (tokens) that this machine learns from in a second, by epoch."
    >
      <Chart
        description={`Tokens a second by epoch, newest: ${newest === null ? 'none yet' : words.number(newest)}`}
        epochs={curves.epochs}
        lines={[line]}
        height={SPEED_HEIGHT}
        lastEpoch={lastEpochShown(curves, report.run.epochsMax)}
        fromZero
      />
      <p class="axis">epoch</p>
    </Panel>
  );
}
