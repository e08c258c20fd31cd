/** What deploy/ promises and a program can hold it to; whether Docker and a cluster agree only they can say. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, it } from 'node:test';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import '../../../node/net/polyfill.js';
import { bootstrapVerb } from '../../../node/cli/bootstrap.js';
import { compareVerb } from '../../../node/cli/compare.js';
import { exportVerb } from '../../../node/cli/export.js';
import { inviteVerb } from '../../../node/cli/invite.js';
import { joinVerb } from '../../../node/cli/join.js';
import { runProgram } from '../../../node/cli/program.js';
import { startVerb } from '../../../node/cli/start.js';
import { statusVerb } from '../../../node/cli/status.js';
import { swarmKeyVerb } from '../../../node/cli/swarm-key.js';
import type { Verb } from '../../../node/cli/verb.js';
import { parseAddress } from '../../../node/net/addresses.js';
import { PACKAGE_DIRECTORY, VERSION } from '../../../node/version.js';

const VERBS = [
  ...[startVerb, joinVerb, bootstrapVerb, statusVerb],
  ...[exportVerb, inviteVerb, swarmKeyVerb, compareVerb],
];
const USER = '10001:10001';
const IMAGE = `murmurate:${VERSION}`;
/** Environment variables that the program, Node or a library reads. */
const KNOWN_VARIABLES = ['NODE_ENV'];
/** A data directory's volume, where peers and bootstrap nodes of the image keep their things. */
const DATA = '/data';

const text = (file: string): string => readFileSync(path.join(PACKAGE_DIRECTORY, file), 'utf8');

/** What `verb` was called with, had it been run. */
interface Parsed {
  verb: string;
  args: readonly (string | null)[];
  options: Readonly<Record<string, unknown>>;
}

/** Parses as the program itself does. Fails for what it refuses: verb, option, value or address. */
async function parsed(args: readonly string[]): Promise<Parsed> {
  const calls: Parsed[] = [];
  const verbs = VERBS.map((verb): Verb => {
    const run: Verb['run'] = async ({ args: given, options }) => {
      calls.push({ verb: verb.name, args: given, options: options as Parsed['options'] });
    };
    return { ...verb, run };
  });
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const { signal } = new AbortController();
  const io = { stdout, stderr, terminal: false, signal, interrupt: (): void => undefined };
  const exitCode = await runProgram(verbs, args, io);
  const [call] = calls;
  assert.ok(exitCode === 0 && call, `murmurate ${args.join(' ')}: ${String(stderr.read())}`);
  const contact = call.verb === 'join' ? [call.args[0] ?? ''] : [];
  for (const name of ['listen', 'bootstrap'])
    contact.push(...z.array(z.string()).parse(call.options[name] ?? []));
  for (const address of contact) parseAddress(address);
  return call;
}

/** The one TCP port that a command listens on. */
function portOf({ options }: Parsed): number {
  const [address = '', ...others] = z.array(z.string()).parse(options['listen']);
  assert.deepEqual(others, []);
  return tcpPort(address);
}

const tcpPort = (address: string): number => Number(/\/tcp\/(\d+)/.exec(address)?.[1]);

// --- compose ---

const serviceSchema = z.strictObject({
  image: z.literal(IMAGE),
  build: z
    .strictObject({ context: z.literal('..'), dockerfile: z.literal('deploy/Dockerfile') })
    .optional(),
  user: z.literal(USER),
  read_only: z.literal(true),
  cap_drop: z.tuple([z.literal('ALL')]),
  security_opt: z.tuple([z.literal('no-new-privileges:true')]),
  tmpfs: z.tuple([z.string().regex(/^\/tmp:size=\d+m,mode=1777,noexec,nosuid,nodev$/)]),
  restart: z.literal('unless-stopped'),
  stop_grace_period: z.string().regex(/^\d+s$/),
  pids_limit: z.number().positive(),
  ulimits: z.strictObject({ core: z.literal(0) }),
  command: z.array(z.string()),
  cpus: z.number().optional(),
  mem_limit: z.string().regex(/^\d+[mg]$/),
  ports: z.array(z.string()).length(1),
  volumes: z.array(z.string()),
  depends_on: z.array(z.string()).optional(),
  healthcheck: z
    .strictObject({
      test: z.array(z.string()),
      interval: z.string(),
      timeout: z.string(),
      start_period: z.string(),
    })
    .optional(),
});
const composeSchema = z.strictObject({
  name: z.string(),
  'x-hardened': z.unknown(),
  services: z.record(z.string(), serviceSchema),
  volumes: z.record(z.string(), z.null()),
});
type Service = z.infer<typeof serviceSchema>;

function services(file: string): [name: string, service: Service][] {
  const document: unknown = parse(text(file), { merge: true });
  return Object.entries(composeSchema.partial({ 'x-hardened': true }).parse(document).services);
}

/** The arguments after Compose has put the variables in. */
function composeArgs({ command }: Service): string[] {
  return command.map((word) =>
    word.replace(/^\$\{CONTACT:\?[^}]+\}$/, '/dns4/bootstrap.example.org/tcp/4001'),
  );
}

const COMPOSE_FILES = ['deploy/compose.yaml', 'deploy/compose.join.yaml'];

// --- Kubernetes ---

const probeSchema = z.looseObject({
  exec: z.object({ command: z.array(z.string()) }).optional(),
  tcpSocket: z.strictObject({ port: z.literal('libp2p') }).optional(),
  timeoutSeconds: z.number().optional(),
});
const mountSchema = z.strictObject({
  name: z.string(),
  mountPath: z.string(),
  readOnly: z.literal(true).optional(),
});
const containerSchema = z.strictObject({
  name: z.string(),
  image: z.literal(IMAGE),
  args: z.array(z.string()),
  env: z.array(z.looseObject({ name: z.string() })).default([]),
  ports: z
    .array(
      z.strictObject({
        name: z.literal('libp2p'),
        containerPort: z.number(),
        protocol: z.literal('TCP'),
      }),
    )
    .length(1),
  securityContext: z.strictObject({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }),
  }),
  resources: z.looseObject({ limits: z.looseObject({ memory: z.string() }) }),
  startupProbe: probeSchema.optional(),
  readinessProbe: probeSchema,
  livenessProbe: probeSchema,
  volumeMounts: z.array(mountSchema),
});
const podSchema = z.strictObject({
  automountServiceAccountToken: z.literal(false),
  enableServiceLinks: z.literal(false),
  terminationGracePeriodSeconds: z.number(),
  securityContext: z.strictObject({
    runAsNonRoot: z.literal(true),
    runAsUser: z.literal(Number(USER.split(':')[0])),
    runAsGroup: z.literal(Number(USER.split(':')[1])),
    fsGroup: z.literal(Number(USER.split(':')[1])),
    fsGroupChangePolicy: z.literal('OnRootMismatch'),
    seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') }),
  }),
  containers: z.array(containerSchema).length(1),
  volumes: z.array(z.looseObject({ name: z.string() })),
});
const objectSchema = z.looseObject({
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
  spec: z
    .looseObject({
      template: z
        .looseObject({
          metadata: z.looseObject({ labels: z.record(z.string(), z.string()) }),
          spec: podSchema,
        })
        .optional(),
      ports: z
        .array(z.looseObject({ port: z.number(), targetPort: z.literal('libp2p') }))
        .optional(),
      selector: z.looseObject({}).optional(),
      volumeClaimTemplates: z
        .array(z.looseObject({ metadata: z.object({ name: z.string() }) }))
        .default([]),
    })
    .optional(),
});
type KubernetesObject = z.infer<typeof objectSchema>;

const KUSTOMIZATION = z
  .looseObject({
    resources: z.array(z.string()),
    images: z.tuple([z.strictObject({ name: z.literal('murmurate'), newTag: z.literal(VERSION) })]),
  })
  .parse(parse(text('deploy/kubernetes/kustomization.yaml')));

function objects(): KubernetesObject[] {
  return KUSTOMIZATION.resources.flatMap((file) =>
    parseAllDocuments(text(`deploy/kubernetes/${file}`)).map((document) => {
      assert.deepEqual(document.errors, [], file);
      return objectSchema.parse(document.toJS());
    }),
  );
}

/** Deployments and StatefulSets, with their one container and the Service of their name. */
function workloads() {
  const all = objects();
  return all.flatMap(({ metadata: { name }, spec }) => {
    if (spec?.template === undefined) return [];
    const [container] = spec.template.spec.containers;
    const service = all.find((other) => other.kind === 'Service' && other.metadata.name === name);
    assert.ok(container && service?.spec, name);
    return [{ name, spec, pod: spec.template.spec, container, service: service.spec }];
  });
}

// --- systemd ---

const UNITS = ['deploy/systemd/murmurate@.service', 'deploy/systemd/murmurate-bootstrap.service'];

/** Values of a directive, in order. */
function directive(file: string, name: string): string[] {
  const lines = text(file).matchAll(new RegExp(`^${name}=(.*)$`, 'gm'));
  return [...lines].map(([, value = '']) => value);
}

/** The values of ARGS in the example, those of its comments too. */
const ARGS = [...text('deploy/systemd/offices.env').matchAll(/^#?ARGS=(.*)$/gm)].map(
  ([, value = '']) => value,
);

/** The command lines of a unit, as systemd would make them for the instance `offices`. */
function execStarts(file: string): string[][] {
  const lines = directive(file, 'ExecStart').filter((line) => line !== '');
  assert.equal(lines.length, 1, file);
  const values = lines[0]?.includes('$ARGS') === true ? ARGS : [''];
  return values.map((args) => {
    const line = (lines[0] ?? '')
      .replace('$ARGS', args)
      .replaceAll('%i', 'offices')
      .replaceAll('%d', '/run/credentials/murmurate@offices.service');
    const [node, main, ...rest] = line.split(' ').filter((word) => word !== '');
    assert.deepEqual([node, main], ['/usr/bin/node', '/opt/murmurate/dist/node/main.js']);
    return rest;
  });
}

// --- the image ---

const DOCKERFILE = text('deploy/Dockerfile').replaceAll(/\\\n\s*/g, '');

/** Arguments of an instruction of the Dockerfile, in order. */
function instructions(name: string): string[] {
  const lines = DOCKERFILE.matchAll(new RegExp(`^\\s*${name} (.*)$`, 'gm'));
  return [...lines].map(([, value = '']) => value);
}

/** A health check: which one, and of which directory. */
const checkSchema = z.tuple([
  z.literal('node'),
  z.literal('/app/dist/deploy/health.js'),
  z.enum(['ready', 'alive', 'listening']),
  z.string(),
]);

describe('the image', () => {
  it('runs the program as a numbered user who owns nothing but the data', () => {
    assert.deepEqual(instructions('FROM'), [
      'node:20-bookworm-slim AS build',
      'node:20-bookworm-slim',
    ]);
    assert.deepEqual(instructions('USER'), [USER]);
    assert.deepEqual(instructions('VOLUME'), [DATA]);
    assert.deepEqual(instructions('WORKDIR').at(-1), DATA);
    assert.deepEqual(instructions('ENTRYPOINT'), ['["murmurate"]']);
    assert.ok(DOCKERFILE.includes('ln -s /app/dist/node/main.js /usr/local/bin/murmurate'));
    assert.ok(!/COPY --chown|ADD /.test(DOCKERFILE));
  });

  it('knows each of its environment variables', () => {
    for (const line of instructions('ENV'))
      assert.ok(KNOWN_VARIABLES.includes(line.split('=')[0] ?? ''));
  });

  it('is built from what .dockerignore lets through, and no more', () => {
    const [first, ...rest] = text('.dockerignore')
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
    assert.equal(first, '*');
    const allowed = rest.filter((line) => line.startsWith('!')).map((line) => line.slice(1));
    const copied = instructions('COPY')
      .filter((line) => !line.startsWith('--from'))
      .flatMap((line) => line.split(' ').slice(0, -1));
    assert.deepEqual(new Set(copied), new Set(allowed));
  });

  it('asks for health where a peer keeps its things by default', async () => {
    const [, command = ''] = /CMD (\[.*\])$/.exec(instructions('HEALTHCHECK')[0] ?? '') ?? [];
    const { options } = await parsed(['start']);
    const check = checkSchema.parse(JSON.parse(command));
    assert.deepEqual(check.slice(2), ['ready', path.join(DATA, String(options['dir']))]);
  });
});

describe('compose files', () => {
  it('hold command lines that the program takes, on ports that agree', async () => {
    const exposed = instructions('EXPOSE').flatMap((line) => line.split(' ').map(Number));
    const listening = new Map<string, number>();
    for (const file of COMPOSE_FILES) {
      for (const [name, service] of services(file)) {
        const call = await parsed(composeArgs(service));
        const port = portOf(call);
        assert.deepEqual(service.ports, [`${port}:${port}`], `${file} ${name}`);
        assert.ok(exposed.includes(port));
        if (file === 'deploy/compose.yaml') listening.set(name, port);
        for (const address of z.array(z.string()).parse(call.options['bootstrap'] ?? [])) {
          const [, host = ''] = /^\/dns4\/([^/]+)/.exec(address) ?? [];
          assert.equal(tcpPort(address), listening.get(host), address);
        }
      }
    }
    assert.deepEqual(new Set(listening.values()), new Set(exposed));
  });

  it('write to their volume only, and mount text read-only', async () => {
    for (const file of COMPOSE_FILES) {
      for (const [, service] of services(file)) {
        const { options } = await parsed(composeArgs(service));
        const files = z.array(z.string()).parse(options['data'] ?? []);
        const [data, ...others] = service.volumes;
        assert.match(data ?? '', /^\w+:\/data$/);
        assert.ok(others.every((volume) => volume.endsWith(':ro')));
        const folders = others.map((volume) => `${volume.split(':')[1] ?? ''}/`);
        assert.ok(files.every((name) => folders.some((folder) => name.startsWith(folder))));
      }
    }
  });

  it('ask a bootstrap node, which has no status server, whether it listens', async () => {
    for (const [, service] of COMPOSE_FILES.flatMap(services)) {
      const { verb, options } = await parsed(composeArgs(service));
      if (verb !== 'bootstrap') {
        assert.equal(service.healthcheck, undefined);
        continue;
      }
      const [word, ...check] = service.healthcheck?.test ?? [];
      assert.equal(word, 'CMD');
      const [, , name, dir] = checkSchema.parse(check);
      assert.deepEqual([name, dir], ['listening', path.join(DATA, String(options['dir']))]);
    }
  });
});

describe('the Kubernetes manifests', () => {
  it('hold command lines that the program takes, on ports that agree', async () => {
    const ports = new Map<string, number>();
    for (const { name, container, service } of workloads()) {
      const variables = container.env.map((variable) => variable.name);
      const args = container.args.map((word) =>
        word.replaceAll(/\$\((\w+)\)/g, (_, variable: string) => {
          assert.ok(variables.includes(variable), `${name}: ${variable}`);
          return 'pod-0';
        }),
      );
      // Each variable is put into the arguments: the program reads none of them itself.
      for (const variable of variables)
        assert.ok(container.args.join(' ').includes(`$(${variable})`));
      const call = await parsed(args);
      const port = portOf(call);
      ports.set(name, port);
      assert.equal(container.ports[0]?.containerPort, port);
      assert.deepEqual(
        service.ports?.map((entry) => entry.port),
        [port],
      );
      const contacts = [...z.array(z.string()).parse(call.options['bootstrap'] ?? [])];
      if (call.verb === 'join') contacts.push(call.args[0] ?? '');
      for (const address of contacts) {
        const [, host = ''] = /^\/dns4\/([^/]+)/.exec(address) ?? [];
        assert.equal(tcpPort(address), ports.get(host), address);
      }
    }
    assert.equal(ports.size, 3);
  });

  it('mount every file that the arguments name, and no volume that is missing', () => {
    for (const { name, spec, pod, container } of workloads()) {
      const volumes = [
        ...pod.volumes.map((volume) => volume.name),
        ...spec.volumeClaimTemplates.map((claim) => claim.metadata.name),
      ];
      assert.deepEqual(container.volumeMounts.map((mount) => mount.name).sort(), volumes.sort());
      const writable = container.volumeMounts.filter((mount) => mount.readOnly !== true);
      assert.deepEqual(writable.map((mount) => mount.mountPath).sort(), [DATA, '/tmp'], name);
      const folders = container.volumeMounts.map((mount) => `${mount.mountPath}/`);
      for (const arg of container.args) {
        const [, file] = /^--(?:data|swarm-key)=(.*)$/.exec(arg) ?? [];
        assert.ok(file === undefined || folders.some((folder) => file.startsWith(folder)), arg);
      }
    }
  });

  it('probe from inside, with more time than the check takes itself', () => {
    const [, timeoutMs = ''] = /TIMEOUT_MS = ([\d_]+)/.exec(text('deploy/health.ts')) ?? [];
    const limitSeconds = Number(timeoutMs.replaceAll('_', '')) / 1000;
    for (const { name, container } of workloads()) {
      const { startupProbe, readinessProbe, livenessProbe } = container;
      if (name === 'murmurate-bootstrap') {
        assert.ok(readinessProbe.tcpSocket && livenessProbe.tcpSocket);
        continue;
      }
      for (const [probe, what] of [
        [startupProbe, 'ready'],
        [readinessProbe, 'ready'],
        [livenessProbe, 'alive'],
      ] as const) {
        const check = checkSchema.parse(probe?.exec?.command);
        assert.deepEqual(check.slice(2), [what, '/data/murmurate-peer']);
        assert.ok((probe?.timeoutSeconds ?? 0) > limitSeconds);
      }
    }
  });

  it('treat the founder as any peer: they differ in their verb and name only', () => {
    const [, founder, peer] = workloads();
    assert.ok(founder && peer);
    const rest = ({ container, pod, spec, service }: typeof peer): unknown[] => {
      const args = container.args.filter((arg) =>
        /^--(listen|threads|no-mdns|swarm-key|data|log)/.test(arg),
      );
      const shared = { ...service, selector: {} };
      return [{ ...pod, containers: [{ ...container, args }] }, spec.volumeClaimTemplates, shared];
    };
    assert.deepEqual(rest(founder), rest(peer));
  });
});

describe('the systemd units', () => {
  it('hold command lines that the program takes, with their state where systemd makes it', async () => {
    for (const file of UNITS) {
      const [state = ''] = directive(file, 'StateDirectory');
      assert.deepEqual(directive(file, 'StateDirectoryMode'), ['0700']);
      for (const args of execStarts(file)) {
        const { options } = await parsed(args);
        assert.equal(options['dir'], `/var/lib/${state.replaceAll('%i', 'offices')}`);
      }
    }
    const ports = await Promise.all(
      UNITS.flatMap(execStarts).map(async (args) => portOf(await parsed(args))),
    );
    assert.deepEqual([...new Set(ports)].sort(), [4001, 4003]);
  });

  it('give the swarm key by a drop-in that changes nothing else of the command line', async () => {
    const dropIn = execStarts('deploy/systemd/drop-ins/swarm-key.conf');
    const unit = execStarts('deploy/systemd/murmurate@.service');
    assert.deepEqual(
      dropIn,
      unit.map((args) => [
        ...args,
        '--swarm-key',
        '/run/credentials/murmurate@offices.service/swarm.key',
      ]),
    );
    for (const args of dropIn) await parsed(args);
  });

  it('run as somebody else than root, who can gain nothing and write nowhere else', () => {
    const wanted = {
      ...{ NoNewPrivileges: 'yes', CapabilityBoundingSet: '', AmbientCapabilities: '' },
      ...{ ProtectSystem: 'strict', ProtectHome: 'yes', PrivateTmp: 'yes', PrivateDevices: 'yes' },
      ...{
        RestrictNamespaces: 'yes',
        LimitCORE: '0',
        RestartPreventExitStatus: '2',
        UMask: '0077',
      },
    };
    for (const file of UNITS) {
      for (const [name, value] of Object.entries(wanted))
        assert.deepEqual(directive(file, name), [value], name);
      assert.deepEqual([...directive(file, 'User'), ...directive(file, 'DynamicUser')].length, 1);
      // With it, V8 dies at its first function.
      assert.deepEqual(directive(file, 'MemoryDenyWriteExecute'), []);
    }
    const [user = ''] = directive(UNITS[0] ?? '', 'User');
    assert.match(text('deploy/systemd/murmurate.sysusers.conf'), new RegExp(`^u ${user} `, 'm'));
  });
});

it('whoever stops a deployment waits longer than the program takes', () => {
  const [, limit = ''] = /STOP_MS_MAX = ([\d_]+)/.exec(text('node/main.ts')) ?? [];
  const seconds = [
    ...COMPOSE_FILES.flatMap(services).map(([, service]) => parseInt(service.stop_grace_period)),
    ...workloads().map(({ pod }) => pod.terminationGracePeriodSeconds),
    ...UNITS.flatMap((file) => directive(file, 'TimeoutStopSec').map(Number)),
  ];
  assert.equal(seconds.length, 8);
  for (const value of seconds) assert.ok(value * 1000 > Number(limit.replaceAll('_', '')));
});

it('the command lines of docs/DEPLOYING.md are ones that the program takes', async () => {
  const lines = [
    ...text('docs/DEPLOYING.md').matchAll(/^(?:docker exec \S+ |kubectl .* -- )?murmurate (.*)$/gm),
  ];
  assert.ok(lines.length > 0);
  for (const [, line = ''] of lines) await parsed(line.replace(/\s+#.*$/, '').split(/\s+/));
});
