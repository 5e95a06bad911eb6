// How this program is called here, for sentences that tell a person what to type.

import { accessSync, constants, existsSync } from 'node:fs';
import { basename, delimiter, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rankCommand } from './distributed/rankCommand.ts';

/** The command line that calls this program with `args`, as it was called itself: by its name, through npx, or by its path in a clone. */
export function invocation(...args: readonly string[]): string {
  return [program(process.argv[1] ?? '', process.env), ...args.map(quoted)].join(' ');
}

/**
 * What a person types to call this program.
 * @param script the path by which Node was given it
 */
export function program(script: string, env: NodeJS.ProcessEnv): string {
  // npx leaves its own command line here for what it starts.
  if (env.npm_lifecycle_event === 'npx' && /^"?dis-cli"?(\s|$)/.test(env.npm_lifecycle_script ?? ''))
    return 'npx dis-cli';
  if (basename(script) === 'dis-cli.mjs' && !script.includes(`${sep}node_modules${sep}`))
    return `node ${quoted(relative(process.cwd(), script))}`;
  return isOnPath('dis-cli', env.PATH ?? '') ? 'dis-cli' : 'npx dis-cli';
}

/** The script behind `dis-cli setup`, from the source and from dist/. */
export function setupScript(): string {
  const found = ['./setup-adapter.mjs', '../../cli/setup-adapter.mjs']
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(path));
  if (found === undefined) throw new Error('The package lacks cli/setup-adapter.mjs; install it again.');
  return found;
}

/** The command that goes on with a run: in a rank, the launcher's or mpirun's. */
export function resumeCommand(folder: { readonly shown: string }): string {
  const ranks = rankCommand(folder.shown);
  if (!ranks) return invocation('train', '--resume', folder.shown);
  const { before, args } = ranks;
  return before ? [...before, ...args].map(quoted).join(' ') : invocation(...args);
}

/** Whether a shell finds a command. What npm puts before the path for its children is in no shell of a person's. */
function isOnPath(command: string, path: string): boolean {
  const names = process.platform === 'win32' ? [`${command}.cmd`, `${command}.exe`] : [command];
  return path
    .split(delimiter)
    .filter((folder) => folder !== '' && !folder.includes(join('node_modules', '.bin')))
    .some((folder) => names.some((name) => isExecutable(join(folder, name))));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function quoted(argument: string): string {
  return /^[\w./:=,@%+-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}
