/** What deploy/ promises and a program can hold it to; whether Docker and a cluster agree only they can say. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFile, cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { z } from 'zod';
import {
  portOf,
  tcpPort,
  services,
  composeArgs,
  COMPOSE_FILES,
  workloads,
  UNITS,
  directive,
  execStarts,
  DOCKERFILE,
  instructions,
  checkSchema,
  USER,
  DATA,
  KNOWN_VARIABLES,
  text,
} from './files.js';
import { PACKAGE_DIRECTORY } from '../../../node/version.js';
import { parsed } from '../../support/parse-command.js';

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
  it('pass systemd-analyze verify, with their drop-ins', async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'murmurate-units-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const dropIns = path.join(folder, 'murmurate@.service.d');
    const files = UNITS.map((file) => path.join(folder, path.basename(file)));
    for (const [i, file] of files.entries())
      await copyFile(path.join(PACKAGE_DIRECTORY, UNITS[i] ?? ''), file);
    await cp(path.join(PACKAGE_DIRECTORY, 'deploy', 'systemd', 'drop-ins'), dropIns, {
      recursive: true,
    });
    const verified = spawnSync('systemd-analyze', ['verify', ...files], { encoding: 'utf8' });
    if (verified.error !== undefined) {
      t.skip('systemd-analyze is not installed');
      return;
    }
    // It also looks for the program, which is where a package of the distribution puts it.
    const said = verified.stderr
      .split('\n')
      .filter((line) => line !== '' && !line.includes('/usr/bin/node is not executable'));
    assert.deepEqual(said, []);
  });

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
