/** murmurate join: takes part in a run that somebody else founded. */
import { checkBaseModel } from '../base-model.js';
import { openTrainer } from '../compose-trainer.js';
import { option, real, text } from '../config.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import type { PeerAddresses } from '../net/run-registry.js';
import type { Run } from '../../protocol/manifest.js';
import { findRun, isRun } from './find-run.js';
import { live, rememberSettings } from './live.js';
import { peerOptions } from './peer-options.js';
import { checkDelta, checkLedger, openPrivacyBudget, privacyOf } from './privacy-options.js';
import { withSession, type Session } from './session.js';
import { LOADING, sayIfSlow, sayPlan } from './slow.js';
import { defineVerb } from './verb.js';

/** Longest --timeout in seconds: a week. */
const TIMEOUT_SECONDS_MAX = 604_800;

const joinOptions = {
  ...peerOptions,
  run: option(text('ID'), null, 'which run, by id or name, where ADDRESS knows several'),
  timeout: option(
    real('SECONDS', 0, TIMEOUT_SECONDS_MAX),
    null,
    'give up when ADDRESS has not answered for so long',
    'never',
  ),
} as const;

export const joinVerb = defineVerb({
  name: 'join',
  summary: 'Take part in a run; the same command again resumes.',
  stays: true,
  args: [{ name: 'ADDRESS', help: 'multiaddr of a bootstrap node or of any peer', required: true }],
  options: joinOptions,
  example: `
$ murmurate join /ip4/192.0.2.7/tcp/40961/p2p/12D3KooWQp6h... --data law.jsonl
run      offices 3f1c9a0b2d44e6...
peer     12D3KooWB5xk...
address  /ip4/192.0.2.9/tcp/40417/p2p/12D3KooWB5xk...
status   http://127.0.0.1:41877
device   cpu (4 threads); cuda was not taken: no NVIDIA card found; webgpu was not taken: no graphics card found
open to the network: whoever reaches these addresses can connect (--listen /ip4/127.0.0.1/tcp/0 keeps to this machine)
epoch 3/30 training: step 10, loss 3.705, held-out 3.688 (base 4.571), 8 updates, 2 peers`,
  run: ({ args: [address], options, given, io }) => {
    const contacts = [address ?? '', ...options.bootstrap];
    return withSession(options, contacts, io, async (session) => {
      const { home, base, logger, host, page, progress, lost } = session;
      const { run, members } = await openRun(session, contacts, options);
      checkMembership(run, home.identity.peerId);
      checkBaseModel(run, base);
      const settings = privacyOf(options, given, run.manifest.training.batchSize);
      await checkLedger(home.directory, home.run, settings);
      const { peerId } = home.identity;
      const opening = openTrainer(
        base,
        run.manifest,
        { ...options, privacy: settings, onPlan: sayPlan(progress.log) },
        peerId,
        logger,
        io.signal,
      );
      const trainer = await sayIfSlow(progress.log, LOADING, opening);
      session.atEnd(() => trainer.close());
      checkDelta(settings, trainer.stats);
      const privacy = await openPrivacyBudget(home.directory, trainer, settings);
      if (home.run === null) await home.directory.writeManifest(run.bytes);
      await rememberSettings(home.directory, base.dir, options);
      logger.info({ ...trainer.stats }, 'private data read');
      await live({
        ...{ home, run, host, trainer, privacy, logger, page, progress, options, io, lost },
        ...{ contacts, members, relay: options.relay, mdns: !options.noMdns },
      });
    });
  },
});

/** The run in the directory; else the one that ADDRESS knows. */
async function openRun(
  { home, host, io, options: { dir } }: Session,
  contacts: readonly string[],
  { run: wanted, timeout }: { run: string | null; timeout: number | null },
): Promise<{ run: Run; members: PeerAddresses[] }> {
  if (home.run === null) {
    const timeoutMs = timeout === null ? Infinity : timeout * 1000;
    const { run, peers } = await findRun(
      host,
      { address: contacts[0] ?? '', wanted, timeoutMs },
      io,
    );
    return { run, members: peers };
  }
  if (wanted !== null && !isRun(home.run, wanted)) {
    throw new UserError(
      `${dir} holds the run "${home.run.manifest.name}" (${home.run.id.slice(0, 12)}), not "${wanted}"; ` +
        'join that one in another --dir',
      EXIT_USAGE,
    );
  }
  return { run: home.run, members: [] };
}

function checkMembership({ manifest }: Run, peerId: string): void {
  const { membership } = manifest;
  if (membership.mode === 'open' || membership.members.some((one) => one.peerId === peerId)) return;
  throw new UserError(
    `the run "${manifest.name}" is for listed peers only, and this one is not listed; ask its founder for ` +
      `a run with --allow ${peerId}`,
  );
}
