/** A picture of the members around this peer: who is connected, and how, and whose update has come. */
import { linkOf, type Member } from './model.js';
import * as words from './words.js';
import type { StatusReport } from '../../status.js';

/** Size of the picture in its own units. */
const WIDTH = 380;
const HEIGHT = 270;

/** More would touch each other; the list has them all. */
const DRAWN_MAX = 16;

interface Dot {
  member: Member;
  x: number;
  y: number;
}

/** Few stand on an arc above this peer, many all around it. */
function placed(members: readonly Member[]): Dot[] {
  return members.slice(0, DRAWN_MAX).map((member, i, { length }) => {
    const arc = length <= FEW ? Math.PI * (0.35 + 0.2 * length) : 2 * Math.PI;
    const share = length <= FEW ? (i + 0.5) / length - 0.5 : i / length;
    const angle = share * arc - Math.PI / 2;
    const x = centreX + Math.cos(angle) * WIDTH * 0.38;
    const y = centreY(length) + Math.sin(angle) * HEIGHT * (length <= FEW ? 0.55 : 0.36);
    return { member, x, y };
  });
}

/** So many stand on an arc. */
const FEW = 4;

const centreX = WIDTH / 2;

function centreY(length: number): number {
  return length <= FEW ? HEIGHT * 0.76 : HEIGHT * 0.46;
}

export function Mesh({ report }: { report: StatusReport }) {
  const { peers } = report;
  const dots = placed(peers);
  const [cx, cy] = [centreX, centreY(dots.length)];
  const of = (link: string): number => peers.filter((peer) => linkOf(peer) === link).length;
  const description =
    `This peer and ${words.count(peers.length, 'other', 'others')}: ${of('direct')} connected directly, ` +
    `${of('relayed')} through a relay, ${of('none')} not connected`;
  return (
    <figure class="mesh">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={description}>
        {dots.map(({ member, x, y }) => (
          <line key={member.peerId} class={linkOf(member)} x1={cx} y1={cy} x2={x} y2={y} />
        ))}
        {dots.map(({ member, x, y }) => {
          const { lastUpdateEpoch, dueEpoch } = member;
          const isHere = lastUpdateEpoch !== null && lastUpdateEpoch >= (dueEpoch ?? -1);
          return (
            <g key={member.peerId} class={`dot ${linkOf(member)} ${isHere ? 'here' : ''}`}>
              <circle cx={x} cy={y} r={10} />
              <text x={x} y={y < cy ? y - 17 : y + 25}>
                {words.shortId(member.peerId)}
              </text>
            </g>
          );
        })}
        <g class="dot self">
          <circle cx={cx} cy={cy} r={15} />
          <text x={cx} y={cy + 33}>
            this peer
          </text>
        </g>
      </svg>
      <figcaption>
        <span class="key direct">direct</span>
        <span class="key relayed">through a relay</span>
        <span class="key none">not connected</span>
        <span class="about">
          A full dot has sent its newest update.
          {peers.length > DRAWN_MAX && ` ${peers.length - DRAWN_MAX} more are in the list.`}
        </span>
      </figcaption>
    </figure>
  );
}
