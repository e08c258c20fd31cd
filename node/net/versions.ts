/** Major versions of the protocol: what a peer offers, by the names of its streams (docs/PROTOCOL.md, "Versions"). */
import { PROTOCOL_VERSION } from '../../protocol/ids.js';

/** A stream of this project in any major version. */
const STREAM_NAME = /^\/murmurate\/[a-z]{1,32}\/(\d{1,6})\.\d+\.\d+$/;

/** The newest major version that `protocols` speak; null unless all of them are newer than ours. */
export function newerVersionOf(protocols: readonly string[]): number | null {
  const majors = protocols.flatMap((name) => {
    const major = STREAM_NAME.exec(name)?.[1];
    return major === undefined ? [] : [Number(major)];
  });
  const isNewer = majors.length > 0 && majors.every((major) => major > PROTOCOL_VERSION);
  return isNewer ? majors.reduce((a, b) => Math.max(a, b)) : null;
}
