// Trains on one text file with whoever joins, and writes the adapter: node train.js notes.txt
import { Peer } from 'murmurate';

const [data = 'notes.txt'] = process.argv.slice(2);
const peer = await Peer.start({ data: [data], epochs: 3, epochSeconds: 5, device: 'cpu' });
console.log(`others take part with: murmurate join ${peer.status().addresses.at(-1)}`);
for await (const { run, heldOutLoss } of peer.epochs()) {
  console.log(`epoch ${run.epoch} of ${run.epochsMax}: held-out loss ${heldOutLoss.now}`);
}
await peer.exportAdapter('my-adapter');
await peer.stop();
