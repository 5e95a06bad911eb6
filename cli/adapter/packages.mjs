// The npm packages that commands need beside this one: webgpu, which computes under Node, and sharp, which reads and writes pictures.
// Together they are 150 MB, so a page's project gets them only where they are asked for. Needs nothing but Node.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';

const NEEDED = ['webgpu', 'sharp'];

/** How package managers add a package to a project, by the lock file that shows them at work. */
const MANAGERS = [
  ['pnpm-lock.yaml', 'pnpm', 'add'],
  ['yarn.lock', 'yarn', 'add'],
  ['bun.lock', 'bun', 'add'],
  ['bun.lockb', 'bun', 'add'],
];

/**
 * What of the needed packages is missing, with the versions that this one works with: `webgpu@^0.6.2`.
 * @param {string} root this package's folder
 * @returns {string[]}
 */
export function missingPackages(root) {
  const { peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return NEEDED.filter((name) => !isInstalled(root, name)).map((name) => `${name}@${peerDependencies[name]}`);
}

function isInstalled(root, name) {
  for (let folder = root; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'node_modules', name, 'package.json'))) return true;
    if (dirname(folder) === folder) return false;
  }
}

/**
 * The folder whose node_modules holds this package, or undefined in a clone.
 * @param {string} root this package's folder
 * @returns {string | undefined}
 */
export function installedIn(root) {
  const at = `${root}${sep}`.indexOf(`${sep}node_modules${sep}`);
  return at < 0 ? undefined : root.slice(0, at) || sep;
}

/**
 * The command that adds packages beside this one.
 * @param {string} project whose node_modules holds this package
 * @param {readonly string[]} packages
 * @returns {string[]}
 */
export function installCommand(project, packages) {
  // What is installed for all projects lies in a folder that is none.
  if (!existsSync(join(project, 'package.json'))) return ['npm', 'install', '--global', ...packages];
  const [, manager, verb] = MANAGERS.find(([lock]) => existsSync(join(project, lock))) ?? [];
  return manager ? [manager, verb, ...packages] : ['npm', 'install', '--no-audit', '--no-fund', ...packages];
}

/**
 * Runs it; what it prints is seen.
 * @returns {boolean} whether it succeeded
 */
export function runInstall(project, [program, ...args]) {
  const windows = process.platform === 'win32';
  // A shell of Windows takes ^ for itself.
  const shown = windows ? args.map((each) => `"${each}"`) : args;
  return spawnSync(program, shown, { cwd: project, stdio: 'inherit', shell: windows }).status === 0;
}
