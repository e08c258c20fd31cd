/** Reads what lies in deploy/, strictly: a key that is missing, unknown or less strict than it was fails. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { PACKAGE_DIRECTORY, VERSION } from '../../../node/version.js';
import type { Parsed } from '../../support/parse-command.js';

export const USER = '10001:10001';
const IMAGE = `murmurate:${VERSION}`;
/** Environment variables that the program, Node or a library reads. */
export const KNOWN_VARIABLES = ['NODE_ENV'];
/** A data directory's volume, where peers and bootstrap nodes of the image keep their things. */
export const DATA = '/data';

export const text = (file: string): string =>
  readFileSync(path.join(PACKAGE_DIRECTORY, file), 'utf8');

/** The one TCP port that a command listens on. */
export function portOf({ options }: Parsed): number {
  const [address = '', ...others] = z.array(z.string()).parse(options['listen']);
  assert.deepEqual(others, []);
  return tcpPort(address);
}

export const tcpPort = (address: string): number => Number(/\/tcp\/(\d+)/.exec(address)?.[1]);

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

export function services(file: string): [name: string, service: Service][] {
  const document: unknown = parse(text(file), { merge: true });
  return Object.entries(composeSchema.partial({ 'x-hardened': true }).parse(document).services);
}

/** The arguments after Compose has put the variables in. */
export function composeArgs({ command }: Service): string[] {
  return command.map((word) =>
    word.replace(/^\$\{CONTACT:\?[^}]+\}$/, '/dns4/bootstrap.example.org/tcp/4001'),
  );
}

export const COMPOSE_FILES = ['deploy/compose.yaml', 'deploy/compose.join.yaml'];

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
export function workloads() {
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

export const UNITS = [
  'deploy/systemd/murmurate@.service',
  'deploy/systemd/murmurate-bootstrap.service',
];

/** Values of a directive, in order. */
export function directive(file: string, name: string): string[] {
  const lines = text(file).matchAll(new RegExp(`^${name}=(.*)$`, 'gm'));
  return [...lines].map(([, value = '']) => value);
}

/** The values of ARGS in the example, those of its comments too. */
const ARGS = [...text('deploy/systemd/offices.env').matchAll(/^#?ARGS=(.*)$/gm)].map(
  ([, value = '']) => value,
);

/** The command lines of a unit, as systemd would make them for the instance `offices`. */
export function execStarts(file: string): string[][] {
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

export const DOCKERFILE = text('deploy/Dockerfile').replaceAll(/\\\n\s*/g, '');

/** Arguments of an instruction of the Dockerfile, in order. */
export function instructions(name: string): string[] {
  const lines = DOCKERFILE.matchAll(new RegExp(`^\\s*${name} (.*)$`, 'gm'));
  return [...lines].map(([, value = '']) => value);
}

/** All instructions of each stage, in order. */
export function stages(): { name: string; value: string }[][] {
  const found: { name: string; value: string }[][] = [];
  for (const [, name = '', value = ''] of DOCKERFILE.matchAll(/^([A-Z]+) (.*)$/gm)) {
    if (name === 'FROM') found.push([]);
    found.at(-1)?.push({ name, value });
  }
  return found;
}

/** A health check: which one, and of which directory. */
export const checkSchema = z.tuple([
  z.literal('node'),
  z.literal('/app/dist/deploy/health.js'),
  z.enum(['ready', 'alive', 'listening']),
  z.string(),
]);
