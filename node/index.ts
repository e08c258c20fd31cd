/** import { Peer } from 'murmurate': a peer in a program of your own (docs/LIBRARY.md). The polyfill comes before any libp2p. */
import './net/polyfill.js';

export { UserError } from './errors.js';
export { Peer, type JoinOptions, type StartOptions, type Surroundings } from './library.js';
export type { PeerReport, StatusReport } from './status.js';
export { VERSION } from './version.js';
