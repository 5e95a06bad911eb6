// Fresh folders in which the packed package is installed, as a user installs it: nothing of this project is found from there.

import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
/** Everything lies in here, removed at the end: projects, the user's cache, the tarball. */
export const WORKPLACE = realpathSync(mkdtempSync(join(tmpdir(), 'dis-package-')));
/** The user's cache, where `dis-cli setup` puts the driver. */
const CACHE = join(WORKPLACE, 'cache');

const LIMIT_MS = 900_000;

export interface Outcome {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a program in a folder, without what this process was told about drivers, and with a cache of its own. */
export function run(cwd: string, program: string, ...args: string[]): Promise<Outcome> {
  const env: NodeJS.ProcessEnv = { ...process.env, XDG_CACHE_HOME: CACHE, GALLIVM_PERF: 'nopt', CI: '1' };
  for (const name of Object.keys(env)) {
    // npm tells its children of the project that it runs in; a user's shell doesn't.
    if (/^(npm_|VK_|DIS_|MESA_SHADER|TSX_|NODE_OPTIONS$|INIT_CWD$)/.test(name)) delete env[name];
  }
  return new Promise((done, failed) => {
    const child = spawn(program, args, {
      cwd,
      env,
      shell: process.platform === 'win32',
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    let out = '',
      err = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    child.on('error', failed);
    child.on('close', (status) => done({ status, out, err }));
  });
}

/** The same; throws where it fails. */
export async function succeed(cwd: string, program: string, ...args: string[]): Promise<string> {
  const { status, out, err } = await run(cwd, program, ...args);
  if (status !== 0)
    throw new Error(`${[program, ...args].join(' ')}: status ${status}\n${`${out}\n${err}`.slice(-4000)}`);
  return out;
}

/** Writes files, their folders with them. */
export function write(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

/** Builds and packs the package; the path of the tarball. */
export async function pack(): Promise<string> {
  const [{ filename }] = JSON.parse(
    (
      await succeed(REPOSITORY, 'npm', 'pack', '--json', '--foreground-scripts=false', '--pack-destination', WORKPLACE)
    ).replace(/^[^[]*/, ''),
  ) as { filename: string }[];
  return join(WORKPLACE, filename);
}

/** `npm init -y && npm i TARBALL` in a new folder, with modules as package.json's type. */
export async function freshProject(name: string, tarball: string, ...more: string[]): Promise<string> {
  const folder = join(WORKPLACE, name);
  mkdirSync(folder);
  await succeed(folder, 'npm', 'init', '-y');
  await succeed(folder, 'npm', 'pkg', 'set', 'type=module');
  await succeed(folder, 'npm', 'i', '--no-audit', '--no-fund', tarball, ...more);
  return folder;
}

/** The version of a package that this repository has, as npm takes it: `typescript@5.9.3`. */
export function sameVersion(name: string): string {
  const { version } = JSON.parse(readFileSync(join(REPOSITORY, 'node_modules', name, 'package.json'), 'utf8')) as {
    version: string;
  };
  return `${name}@${version}`;
}
