// Two network namespaces stand in for two machines: each has a name and an address of its own, and a pair of virtual
// network devices joins them. Open MPI starts the second one's ranks by a script in place of ssh.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as assert from 'uvu/assert';
import { assertNear, CLI, flags, folder, Job, metrics, saidCommand, undisturbed, type Scene } from './support.ts';

const A = `dis-a-${process.pid}`,
  B = `dis-b-${process.pid}`;
const NETWORK = '10.213.77';

/** What is left of a minute when mpirun is gone, for the other machine's ranks. */
const MINUTE = 60_000;

function ip(...args: string[]): void {
  const { status, stderr, error } = spawnSync('ip', args, { encoding: 'utf8' });
  if (error || status !== 0) throw new Error(`ip ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
}

/** Makes both. @returns why this machine doesn't allow it, or undefined */
function connect(): string | undefined {
  try {
    for (const name of [A, B]) ip('netns', 'add', name);
    ip('link', 'add', 'veth0', 'netns', A, 'type', 'veth', 'peer', 'name', 'veth0', 'netns', B);
    for (const [k, name] of [A, B].entries()) {
      ip('-n', name, 'addr', 'add', `${NETWORK}.${k + 1}/24`, 'dev', 'veth0');
      for (const device of ['lo', 'veth0']) ip('-n', name, 'link', 'set', device, 'up');
    }
    return undefined;
  } catch (error) {
    disconnect();
    return `no network namespaces (${(error as Error).message})`;
  }
}

function disconnect(): void {
  for (const name of [A, B]) spawnSync('ip', ['netns', 'del', name]);
}

const processes = (name: string): string[] =>
  spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).stdout.split('\n').filter(Boolean);

/** A command on the first machine. */
const onFirst = (command: readonly string[]): Job =>
  new Job('ip', [
    ...['netns', 'exec', A, 'unshare', '-u', 'sh', '-c', 'hostname host-a && exec "$@"', 'sh'],
    ...command,
  ]);

export function network(): readonly Scene[] {
  const notRun = connect();
  return [
    {
      name: '2 hosts of 2 ranks over TCP, and their link is cut: a clear end within a minute, and nothing is lost',
      notRun,
      async run() {
        const agent = join(folder, 'agent');
        // As ssh does: the name of the machine, then words of a shell's command.
        const begin = 'hostname host-b && exec sh -c "$1"';
        const script = `#!/bin/sh\nshift\nexec ip netns exec ${B} unshare -u sh -c '${begin}' sh "$*"\n`;
        writeFileSync(agent, script, { mode: 0o755 });
        const run = join(folder, 'network');
        const mca = [
          ['plm_rsh_agent', agent],
          ['pml', 'ob1'],
          ['btl', 'self,vader,tcp'],
          ['btl_tcp_if_include', `${NETWORK}.0/24`],
          ['oob_tcp_if_include', `${NETWORK}.0/24`],
        ].flatMap(([name, value]) => ['--mca', name, value]);
        const hosts = [
          '--host',
          `${NETWORK}.1:2,${NETWORK}.2:2`,
          '-n',
          '4',
          '--bind-to',
          'none',
          '--allow-run-as-root',
        ];
        const args = [...flags(run), '--distributed', '--oversubscribe'];
        const job = onFirst(['mpirun', ...mca, ...hosts, process.execPath, CLI, ...args]);
        await job.until('step 15', () => metrics(run).length >= 15);
        ip('-n', B, 'link', 'set', 'veth0', 'down');
        const cut = performance.now();
        assert.is.not(await Promise.race([job.ended, sleep(MINUTE, 'late')]), 'late', job.said);
        const ended = (performance.now() - cut) / 1000;
        assert.match(job.said, /Ranks 2, 3 on host-b have given no sign of life for 30 s .* or the network is cut\./);
        while (processes(B).length > 0 && performance.now() - cut < MINUTE) await sleep(500);
        console.log(
          `      the first host ended after ${ended.toFixed(1)} s, the second after ` +
            `${((performance.now() - cut) / 1000).toFixed(1)} s`,
        );
        assert.equal(processes(B), [], 'processes are left on the second host');
        const command = saidCommand(job.said);
        ip('-n', B, 'link', 'set', 'veth0', 'up');
        const again = onFirst(['sh', '-c', `exec ${command}`]);
        assert.is(await again.ended, 0, again.said);
        assertNear(metrics(run), await undisturbed());
      },
      end: disconnect,
    },
  ];
}
