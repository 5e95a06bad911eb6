// `dis-cli setup`: provides what a machine lacks, the npm packages that commands need and an adapter. The work is done by a script
// without dependencies, which runs in a clone before anything is installed.

import { spawn } from 'node:child_process';
import { Command } from 'commander';
import { EXIT, UsageError } from '../errors.ts';
import { invocation, setupScript } from '../invocation.ts';
import { flag, text } from '../options.ts';

interface SetupOptions {
  readonly force?: boolean;
  readonly remove?: boolean;
  readonly dir?: string;
}

/** The command. */
export function setupCommand(): Command {
  return new Command('setup')
    .description(
      'provide what is missing: npm packages that commands need, and a software adapter where there is no GPU',
    )
    .option('--force', 'look for adapters again, and download the software driver again if needed')
    .option('--remove', 'remove the software driver')
    .addOption(
      flag(
        '--dir <folder>',
        "where the software driver lies; default: DIS_VULKAN_DIR, .vulkan/ of a clone, the user's cache",
        text,
      ),
    )
    .action(setup);
}

async function setup({ force, remove, dir }: SetupOptions): Promise<void> {
  if (force && remove) throw new UsageError('--force and --remove were both given, expected one of them.');
  const args = [
    ...(force ? ['--force'] : []),
    ...(remove ? ['--remove'] : []),
    ...(dir === undefined ? [] : ['--dir', dir]),
  ];
  const child = spawn(process.execPath, [setupScript(), ...args], {
    stdio: 'inherit',
    env: { ...process.env, DIS_SETUP_COMMAND: invocation('setup') },
  });
  const status = await new Promise<number | null>((done, failed) => child.on('close', done).on('error', failed));
  process.exitCode = status === 0 ? EXIT.ok : EXIT.gpu;
}
