import { SCENARIOS } from './scenarios.js';
import { SyncSession } from '../../protocol/sync.js';
if (process.env.TRACE) { const r = SyncSession.prototype.receive; SyncSession.prototype.receive = function (b) { try { return r.call(this, b); } catch (e) { console.log('SYNC', String(e)); throw e; } }; }
const names = process.argv[2] === 'all' ? Object.keys(SCENARIOS) : process.argv[2]!.split(',');
const [seed, peers] = [Number(process.argv[3] ?? 1), Number(process.argv[4] ?? 6)];
for (const name of names) {
const t = Date.now();
try { const o = await SCENARIOS[name]!.run(seed, peers); console.log('ok', name, o.updates, Date.now() - t, 'ms'); } catch (e) { console.log('FAIL', name, String((e as Error).stack).split('\n').filter(l=>!l.includes('node:')).slice(0, Number(process.env.LINES ?? 6)).join('\n')); }
}
