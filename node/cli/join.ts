/** murmurate join: takes part in a run that somebody else founded. */
import { checkBaseModel } from '../base-model.js';
import { openTrainer } from '../compose-trainer.js';
import type { Origin } from '../config/sources.js';
import { EXIT_USAGE, UserError } from '../errors.js';
import { addressesOf, readInvite, useInvite } from '../invite.js';
import { parseAddress } from '../net/addresses.js';
import { NotAdmittedError } from '../net/errors.js';
import type { Host } from '../net/host.js';
import { announce } from '../net/introduce.js';
import type { PeerAddresses } from '../net/run-registry.js';
import { SwarmKey } from '../net/swarm-key.js';
import { epochAt } from '../peer/slots.js';
import type { Admission } from '../../protocol/admission.js';
import { NotAMemberError } from '../../protocol/errors.js';
import { looksLikeInvite, type Invite } from '../../protocol/invite.js';
import type { Run } from '../../protocol/manifest.js';
import { isListed } from '../../protocol/members.js';
import { columnsOf } from './data-options.js';
import { findRun, isRun } from './find-run.js';
import { initialFromMembers, sharedWith } from './initial-adapter.js';
import { joinOptions, type JoinOptions } from './join-options.js';
import { live, rememberSettings, type LiveInit } from './live.js';
import { fromMembers, openSharedModel } from './model-sharing.js';
import { checkDelta, checkLedger, openPrivacyBudget, privacyOf } from './privacy-options.js';
import { withSession, type Session } from './session.js';
import { LOADING, sayIfSlow, sayPacking, sayPlan, sayReading } from './slow.js';
import { defineVerb } from './verb.js';

/** How long a contact may take to look at an admission, in ms: a busy one took more than 10 s. */
const SHOW_MS_MAX = 30_000;

export const joinVerb = defineVerb({
  name: 'join',
  summary: 'Take part in a run; the same command again resumes.',
  stays: true,
  isPeer: true,
  args: [
    {
      name: 'ADDRESS',
      help: 'multiaddr of a bootstrap node or of any peer, or an invite',
      required: false,
    },
  ],
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
  run: async ({ args: [argument], options, origins, io }) => {
    const address = argument ?? options.address;
    if (address === null) throw noAddress();
    const { contacts, invitedKey, prepare } = joining(address, options, origins);
    const body = async (session: Session): Promise<void> => live(await prepare(session));
    await withSession(options, contacts, io, body, invitedKey);
  },
});

/** What joining at `address`, which may be an invite, takes. */
export interface Joining {
  /** Whom to dial. */
  contacts: string[];
  /** Of a private network, where the invite has it. */
  invitedKey: SwarmKey | null;
  /** Finds and enters the run, and opens what trains. Throws UserError, NotAMemberError and what that throws. */
  prepare: (session: Session) => Promise<LiveInit>;
}

/** Throws UserError (wrong usage) for an invite that is damaged. */
export function joining(
  address: string,
  options: JoinOptions,
  origins: ReadonlyMap<string, Origin>,
): Joining {
  const invite = looksLikeInvite(address) ? readInvite(address) : null;
  const addresses = invite === null ? [address] : addressesOf(invite);
  const contacts = [...addresses, ...options.bootstrap];
  const prepare = async (session: Session): Promise<LiveInit> => {
    const { home, logger, host, page, progress, io, lost } = session;
    const wanted = invite?.runId ?? options.run;
    const { run: found, members } = await openRun(session, addresses, { ...options, run: wanted });
    const admission = await enter(session, found, invite, contacts);
    const { signed = null } = admission ?? {};
    const base = await session.openBase(
      found,
      fromMembers(session, { contacts, members, admission: signed, timeout: options.timeout }),
    );
    checkBaseModel(found, base);
    const run = await initialFromMembers({
      ...{ host, run: found, contacts, members, admission: signed, timeout: options.timeout, io },
      dir: home.directory.path,
    });
    const sharedModel = sharedWith(run, await openSharedModel(session, run, base.dir));
    const { batchSize } = run.manifest.training;
    const settings = privacyOf(options, new Set(origins.keys()), batchSize);
    await checkLedger(home.directory, home.run, settings);
    const { peerId } = home.identity;
    const opening = openTrainer(
      base,
      run.manifest,
      {
        ...options,
        columns: columnsOf(options),
        privacy: settings,
        onPlan: sayPlan(progress.log),
        onReading: sayReading(progress.log),
        onPacking: sayPacking(progress.log),
      },
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
    return {
      ...{ home, run, host, trainer, privacy, logger, page, progress, options, io, lost },
      ...{ contacts, members, admission, sharedModel },
      ...{ relay: options.relay, mdns: !options.noMdns },
    };
  };
  return { contacts, invitedKey: invite?.swarmKey ? new SwarmKey(invite.swarmKey) : null, prepare };
}

function noAddress(): UserError {
  return new UserError(
    'nobody to join: give the ADDRESS of a bootstrap node or of any peer, or an invite',
    EXIT_USAGE,
  );
}

/** The run in the directory; else the one that ADDRESS knows. */
async function openRun(
  { home, host, io, options: { dir } }: Session,
  addresses: readonly string[],
  { run: wanted, timeout }: { run: string | null; timeout: number | null },
): Promise<{ run: Run; members: PeerAddresses[] }> {
  if (home.run === null) {
    const timeoutMs = timeout === null ? Infinity : timeout * 1000;
    const { run, peers } = await findRun(host, { addresses, wanted, timeoutMs }, io);
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

/**
 * How this peer comes into `run`: null where the manifest lists it, or where it is in already. A newcomer shows
 * its admission to those of `contacts` that answer, so that an invite that was used before is told here.
 * Throws UserError, NotAMemberError.
 */
async function enter(
  { home: { identity, run: stored }, host, io }: Session,
  run: Run,
  invite: Invite | null,
  contacts: readonly string[],
): Promise<Admission | null> {
  const { membership } = run.manifest;
  const isResuming = stored !== null;
  if (invite === null) {
    // A restarted peer has its admission on disk, if it has one.
    if (isListed(membership, identity.peerId) || (isResuming && membership.mode === 'invite'))
      return null;
    throw new NotAMemberError(run.manifest, identity.peerId);
  }
  const epoch = epochAt(run, Date.now());
  const admission = useInvite(invite, run, identity, { epoch, isResuming });
  if (admission === null || isResuming) return admission;
  for (const contact of contacts) {
    if (await show(host, contact, run, admission, io.signal)) break;
  }
  return admission;
}

/** Whether the peer at `contact` has seen the admission. Throws UserError when it refuses it. */
async function show(
  host: Host,
  contact: string,
  run: Run,
  { signed }: Admission,
  signal: AbortSignal,
): Promise<boolean> {
  const door = { admission: signed, meet: (): void => undefined };
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(SHOW_MS_MAX)]);
  try {
    await announce(host, parseAddress(contact), run, door, deadline);
    return true;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof NotAdmittedError) throw new UserError(error.message);
    // The dialler goes on asking.
    return false;
  }
}
