/** A lying member among real peers: whatever it signs, forges or serves, nobody's adapter is other than the updates make it. */
import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { createIdentity } from '../../node/net/identity.js';
import { LyingMember } from './lying-member.js';
import { Offices, oneAdapter, sealingRun, updatesOf } from './offices.js';

/** More than the test needs: it ends when it has seen what it waits for. */
const EPOCHS = 500;

const offices = await Offices.open('liar');
let liar: LyingMember | null = null;
after(async () => {
  await liar?.stop();
  await offices.close();
});

describe('a listed member that signs, forges and serves lies about seals', () => {
  it('changes no adapter, is evicted, and keeps neither the others nor a newcomer from agreeing', async () => {
    const identity = await createIdentity();
    const allow = await offices.peerIds('shop', 'law', 'late');
    // Founder, shop and law have seven ninths of the weight; the liar and the newcomer have one each.
    const weights = allow.map((id, i) => (i < 2 ? `${id}:3` : id));
    const run = sealingRun(EPOCHS, 2, [...weights, identity.peerId]);
    const clinic = offices.launch('clinic', ...run);
    const { address, peerId: founder } = await clinic.facts();
    const shop = offices.launch('shop', 'join', address);
    const law = offices.launch('law', 'join', address);
    liar = await LyingMember.join(identity, address);
    const { did } = liar;
    for (const peer of [shop, law]) await liar.meet((await peer.facts()).address);
    for (const peer of [clinic, shop, law]) {
      await peer.status('a seal in spite of it', ({ adapter }) => adapter.sealedEpoch >= 4);
    }

    const late = offices.launch('late', 'join', address);
    await liar.meet((await late.facts()).address);
    const [id = ''] = allow.slice(2);
    await clinic.status('work of the newcomer', (report) => updatesOf(report, id) > 0);
    const peers = [clinic, shop, law, late];
    const [first] = await oneAdapter('one adapter', peers, ({ adapter, peers: others }) => {
      const seen = others.find(({ peerId }) => peerId === identity.peerId);
      return adapter.sealedEpoch >= 8 && (seen?.rejected.equivocation ?? 0) > 0;
    });
    assert.ok(did.seals >= 2 && did.certificates >= 3 && did.sessions >= 3, JSON.stringify(did));
    assert.ok(first && updatesOf(first, identity.peerId) === 0 && first.peerId === founder);

    // At rest the adapter is what the log folds to: the founder has every update, and took no sum from others.
    const names = ['clinic', 'shop', 'law', 'late'];
    await Promise.all(names.map((name) => offices.run(name, 'pause')));
    const [resting] = await oneAdapter('one adapter at rest', peers, ({ run: { state } }) => {
      return state === 'resting';
    });
    const said = await offices.run('clinic', 'history', '--json');
    const history = JSON.parse(said) as { gone: unknown; epochs: { sha256: string }[] };
    assert.equal(history.gone, null);
    assert.equal(history.epochs.at(-1)?.sha256, resting?.adapter.sha256);
  });
});
