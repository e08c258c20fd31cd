/**
 * Commands of the documents that no test types as they stand, each with the reason, and with what holds it instead. A command that is
 * neither here nor in a block of console of any document fails test/unit/docs/commands.test.ts; so does a line here that none needs.
 */

export interface NotTyped {
  /** What the command begins with. */
  begins: string;
  why: string;
  /** What says that it is right, or that nothing does. */
  instead: string;
}

const NO_DAEMON = 'no Docker daemon where the tests run';
const NO_CLUSTER = 'no cluster where the tests run';
const NO_SYSTEMD = 'writes to /etc, /usr and /srv, for a systemd that is process 1';
const DEPLOY_FILES =
  'test/unit/deploy parses the files; by hand: hadolint, the schema of Compose, kubectl kustomize, systemd-analyze verify';
const SCRIPTS = 'the script and its flags are there';
const MEASURES = 'measures for minutes or hours, and what it prints depends on the machine';

/** Scripts of package.json that take long, and what runs the same code in seconds. */
const LONG_SCRIPTS: readonly (readonly [script: string, instead: string])[] = [
  ['sim', 'the tier sim runs the same scenarios'],
  ['sim:nightly', 'the tier sim has a small one: random seeds with all faults'],
  ['chaos', 'test/netns/chaos.test.ts is a short one'],
  ['fuzz', 'test/unit/fuzz runs each target for a moment'],
  ['fuzz:nightly', 'test/unit/fuzz runs each target for a moment'],
  ['soak', 'test/unit/soak holds its judgement to made-up series'],
  ['flood', 'test/net/flood.test.ts is a short one'],
  ['screenshots', 'test/browser opens the same page'],
  ['reference', 'the tier reference compares the same cases'],
  ['reference:text', 'the tier reference compares the text of the embedded base'],
  ['reference:exports', `${SCRIPTS}; needs llama.cpp`],
];

export const NOT_TYPED: readonly NotTyped[] = [
  { begins: 'npm run build', why: 'builds', instead: '.ci/run does it' },
  { begins: 'npm link', why: 'writes outside of the checkout', instead: 'nothing' },
  { begins: 'npm ci', why: 'installs', instead: '.ci/run begins with it' },
  { begins: 'npm pack', why: 'packs 80 MB', instead: 'test/install/package.test.ts packs' },
  { begins: 'npm install', why: 'installs', instead: 'test/install/package.test.ts installs' },
  { begins: 'find node_modules', why: 'deletes', instead: 'test/install/package.test.ts runs it' },
  { begins: 'npm test', why: 'a test in a test', instead: '.ci/run runs it; the tiers are there' },
  { begins: 'npm start', why: 'takes five minutes', instead: 'test/unit/examples has its parts' },
  { begins: 'npm run check', why: 'takes minutes', instead: '.ci/run runs it' },
  ...LONG_SCRIPTS.map(([script, instead]) => ({
    ...{ begins: `npm run ${script} `, instead },
    why: 'takes minutes to hours, or what not every machine has',
  })),
  {
    ...{ begins: 'npm run generate:', why: 'writes into the checkout' },
    instead:
      'test/unit/cli/reference.test.ts compares docs/CLI.md; the wire code is pinned by golden bytes',
  },
  { begins: 'npm run bench:', why: MEASURES, instead: SCRIPTS },
  { begins: 'mkdir deploy/text', why: NO_DAEMON, instead: DEPLOY_FILES },
  { begins: 'cp notes.jsonl deploy/text/', why: NO_DAEMON, instead: DEPLOY_FILES },
  { begins: 'chmod 644 deploy/text/', why: NO_DAEMON, instead: DEPLOY_FILES },
  { begins: 'docker compose', why: NO_DAEMON, instead: DEPLOY_FILES },
  { begins: 'docker exec', why: NO_DAEMON, instead: 'what it runs inside is parsed' },
  { begins: 'kubectl', why: NO_CLUSTER, instead: DEPLOY_FILES },
  { begins: 'install -', why: NO_SYSTEMD, instead: DEPLOY_FILES },
  { begins: 'cp -r package.json', why: NO_SYSTEMD, instead: DEPLOY_FILES },
  { begins: 'systemd-sysusers', why: NO_SYSTEMD, instead: DEPLOY_FILES },
  { begins: 'systemctl', why: NO_SYSTEMD, instead: DEPLOY_FILES },
  { begins: 'runuser', why: NO_SYSTEMD, instead: 'what it runs inside is parsed' },
  {
    begins: 'murmurate start --from',
    why: 'a run of its own, from an adapter of yours',
    instead: 'test/net/from-adapter.test.ts',
  },
  {
    begins: 'ssh -L',
    why: 'needs another machine',
    instead: 'nothing; -L is forwarding in OpenSSH',
  },
  {
    begins: 'llama-cli',
    why: 'is not ours',
    instead: 'npm run reference:exports has llama.cpp load such a file',
  },
  {
    begins: 'murmurate chat ',
    why: 'a conversation of a person at a terminal',
    instead: 'test/unit/cli/chat-session.test.ts',
  },
  ...[
    'bootstrap --dir demo/',
    'start --dir demo/',
    'join ADDRESS --dir demo/',
    'export demo/',
    'generate Q: Where is the centrifuge',
  ].map((rest) => ({
    begins: `npx murmurate ${rest}`,
    why: 'a run of two and a half minutes',
    instead: 'parsed; npm start is the same run',
  })),
];
