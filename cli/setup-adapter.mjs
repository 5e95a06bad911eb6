#!/usr/bin/env node
// `dis-cli setup`: finds a WebGPU adapter, and where there is none provides one: on Debian and Ubuntu Mesa's software Vulkan driver, put
// into a folder of the clone or the user's cache, without root; elsewhere a sentence that says what to install. Needs Node 20 and nothing
// else, so that it can run before anything is installed. core/gpu/node.ts loads what this writes.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { debianFamily, fetchLavapipe } from './adapter/debian.mjs';
import { installCommand, installedIn, missingPackages, runInstall } from './adapter/packages.mjs';

/** What a person types to call this. */
const COMMAND = process.env.DIS_SETUP_COMMAND || 'node cli/setup-adapter.mjs';

const HELP = `Usage: node cli/setup-adapter.mjs [--install] [--force] [--remove] [--dir FOLDER]

Looks for a WebGPU adapter. Where there is none, on Debian and Ubuntu, downloads a software
Vulkan driver (Mesa lavapipe, about 50 MB); needs no root. Where this is an installed package,
the npm packages that commands need, webgpu and sharp, are installed beside it first.

  --install     first run npm ci where node_modules is missing or older than package-lock.json
  --force       look again, and download again if needed
  --remove      remove the software driver
  --dir FOLDER  where the driver lies; default: DIS_VULKAN_DIR, else .vulkan/ of a clone,
                else dis-webgpu/vulkan in the user's cache
  --help        this text
`;

// Opens an adapter and a device in a process of its own: a broken driver may crash it. Prints a line of JSON.
const PROBE = `
  const folder = process.env.DIS_PROBE_FOLDER;
  if (folder) {
    const { readFileSync } = await import('node:fs');
    for (const library of JSON.parse(readFileSync(folder + '/driver.json', 'utf8')).preload) {
      try { process.dlopen({ exports: {} }, folder + '/' + library, 0x2 | 0x100 | 0x1000); }
      catch (error) { if (!/self-register/.test(error.message)) throw error; }
    }
  }
  const { create } = await import('webgpu');
  let gpu = create([]);
  const adapter = await gpu.requestAdapter();
  const device = await adapter?.requestDevice();
  console.log('\\n' + JSON.stringify(adapter && { name: adapter.info.description || adapter.info.device || adapter.info.vendor }));
  device?.destroy();
  gpu = undefined;
  process.exit(0);
`;

class Failure extends Error {}

async function main() {
  const options = parseOptions();
  if (options.help) {
    process.stdout.write(HELP);
    return;
  }
  const project = packageRoot();
  const folder = resolve(options.dir ?? (process.env.DIS_VULKAN_DIR || ownFolder(project)));
  const shown = relative(process.cwd(), folder).startsWith('..') ? folder : relative(process.cwd(), folder) || '.';
  if (options.remove) return remove(folder, shown);
  if (options.install) installPackages(project);
  addPackages(project);

  if (!options.force) {
    const driver = wholeDriver(folder);
    if (driver !== undefined) {
      console.log(`adapter: software Vulkan (Mesa ${driver.mesa} lavapipe) in ${shown}`);
      return;
    }
  }
  const found = probe(project, ownEnvironment(folder));
  if (found.name !== undefined) {
    // A driver that came since makes the software one a hindrance.
    if (existsSync(join(folder, 'driver.json'))) rmSync(folder, { recursive: true, force: true });
    console.log(`adapter: ${found.name}`);
    return;
  }
  const system = process.platform === 'linux' ? debianFamily(osRelease()) : undefined;
  if (system === undefined) throw new Failure(`No WebGPU adapter was found${because(found)}; ${advice()}`);
  if (
    existsSync(folder) &&
    readdirSync(folder).length > 0 &&
    wholeDriver(folder) === undefined &&
    !existsSync(join(folder, 'driver.json'))
  ) {
    throw new Failure(
      `${shown} holds files that are not a driver of this project; move them away or name another folder with --dir.`,
    );
  }
  const mesa = await provide(system, folder, project);
  console.log(`adapter: software Vulkan (Mesa ${mesa} lavapipe), now in ${shown}`);
  if (existsSync('/dev/dri/renderD128')) {
    console.log(
      `This machine has a GPU whose Vulkan driver Dawn refuses or lacks; for its speed ${advice()} Then: ${COMMAND} --force`,
    );
  }
}

function parseOptions() {
  try {
    return parseArgs({
      options: {
        install: { type: 'boolean' },
        force: { type: 'boolean' },
        remove: { type: 'boolean' },
        dir: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    throw new Failure(`${error.message.split('. ')[0]}; see --help.`);
  }
}

/** `npm ci`, unless npm's own record of what it installed is newer than what is asked for. */
function installPackages(project) {
  const lock = statSync(join(project, 'package-lock.json'), { throwIfNoEntry: false });
  const installed = statSync(join(project, 'node_modules', '.package-lock.json'), { throwIfNoEntry: false });
  if (lock === undefined || (installed !== undefined && installed.mtimeMs >= lock.mtimeMs)) return;
  const npm = process.env.npm_execpath; // set where npm runs this script
  const args = ['ci', '--no-audit', '--no-fund'];
  const { status } = npm
    ? spawnSync(process.execPath, [npm, ...args], { cwd: project, stdio: 'inherit' })
    : spawnSync('npm', args, { cwd: project, stdio: 'inherit', shell: process.platform === 'win32' });
  if (status !== 0) throw new Failure('`npm ci` failed; what it printed above says why.');
}

/** Where core/gpu/node.ts looks for the driver: in a clone, or, since npm empties an installed package's folder, in the user's cache. */
function ownFolder(project) {
  if (installedIn(project) === undefined) return join(project, '.vulkan');
  const { XDG_CACHE_HOME: cache = '' } = process.env;
  return join(isAbsolute(cache) ? cache : join(homedir(), '.cache'), 'dis-webgpu', 'vulkan');
}

/** Installs what commands need beside this package, where it is missing. */
function addPackages(project) {
  const missing = missingPackages(project);
  if (missing.length === 0) return;
  const beside = installedIn(project);
  if (beside === undefined)
    throw new Failure(`The npm packages of this clone are not installed; run \`npm ci\` first.`);
  const command = installCommand(beside, missing);
  console.log(`packages: ${command.join(' ')}, in ${beside}`);
  if (!runInstall(beside, command) || missingPackages(project).length > 0)
    throw new Failure(`\`${command.join(' ')}\` in ${beside} failed; what it printed above says why.`);
}

/** Removes a driver that this program provided, and nothing else. */
function remove(folder, shown) {
  removeLeftovers(folder);
  if (!existsSync(join(folder, 'driver.json'))) {
    if (existsSync(folder)) throw new Failure(`${shown} holds no driver that was set up here; it is left as it is.`);
    console.log(`There is no software driver in ${shown}.`);
    return;
  }
  rmSync(folder, { recursive: true });
  console.log(`The software driver in ${shown} is removed; ${COMMAND} provides it again.`);
}

/** Downloads into a folder beside `folder`, opens an adapter with it, and only then gives it its name. */
async function provide(system, folder, project) {
  removeLeftovers(folder);
  const partial = `${folder}.partial-${process.pid}`;
  process.umask(0o022); // core/gpu/node.ts loads nothing that others could have written
  const cleanUp = () => rmSync(partial, { recursive: true, force: true });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.once(signal, () => {
      cleanUp();
      process.exit(130);
    });
  }
  const line = progressLine(
    `No GPU driver that WebGPU can use: fetching Mesa's software driver for ${system.codename}`,
  );
  try {
    mkdirSync(partial, { recursive: true });
    const driver = await fetchLavapipe(system, partial, line.show);
    line.show('opening the adapter');
    writeFileSync(join(partial, 'driver.json'), `${JSON.stringify(driver, null, 2)}\n`);
    const opened = probe(project, {
      ...ownEnvironment(folder),
      DIS_PROBE_FOLDER: partial,
      VK_DRIVER_FILES: join(partial, driver.icd),
      VK_ICD_FILENAMES: join(partial, driver.icd),
    });
    if (opened.name === undefined) throw new Error(`Mesa ${driver.mesa} opens no adapter${because(opened)}`);
    rmSync(folder, { recursive: true, force: true });
    renameSync(partial, folder);
    return driver.mesa;
  } catch (error) {
    throw new Failure(`The software Vulkan driver could not be provided (${error.message}); ${advice()}`);
  } finally {
    line.end();
    cleanUp();
  }
}

/** The manifest of a driver folder all of whose files are there. */
function wholeDriver(folder) {
  try {
    const driver = JSON.parse(readFileSync(join(folder, 'driver.json'), 'utf8'));
    return [driver.icd, ...driver.preload].every((file) => existsSync(join(folder, file))) ? driver : undefined;
  } catch {
    return undefined;
  }
}

/** Folders of set-ups that were killed. */
function removeLeftovers(folder) {
  const parent = dirname(folder),
    prefix = `${basename(folder)}.partial-`;
  if (!existsSync(parent)) return;
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(prefix)) continue;
    try {
      process.kill(Number(name.slice(prefix.length)), 0);
    } catch (error) {
      if (error.code === 'ESRCH') rmSync(join(parent, name), { recursive: true, force: true });
    }
  }
}

/** What a process sees without the driver in `folder`. */
function ownEnvironment(folder) {
  const env = { ...process.env };
  for (const name of ['VK_DRIVER_FILES', 'VK_ICD_FILENAMES']) {
    if (env[name] && dirname(resolve(env[name])) === folder) delete env[name];
  }
  return env;
}

function probe(project, env) {
  const child = spawnSync(process.execPath, ['--input-type=module', '--eval', PROBE], {
    cwd: project,
    // A look at the drivers is no reason for them to keep anything in the user's cache.
    env: { MESA_SHADER_CACHE_DISABLE: 'true', __GL_SHADER_DISK_CACHE: '0', ...env },
    encoding: 'utf8',
    timeout: 120_000,
  });
  const line = child.stdout?.trim().split('\n').at(-1);
  if (child.status === 0) {
    const adapter = JSON.parse(line);
    return adapter === null ? { reason: 'no driver' } : { name: adapter.name };
  }
  if (/ERR_MODULE_NOT_FOUND/.test(child.stderr) && /'webgpu'/.test(child.stderr)) {
    throw new Failure(`The npm package webgpu is not installed; run \`${COMMAND}\` again.`);
  }
  const error = /^\w*Error: (.*)$/m.exec(child.stderr ?? '')?.[1];
  return { reason: error ?? (child.signal ? `ended by ${child.signal}` : `exit status ${child.status}`) };
}

const because = ({ reason }) => (reason === 'no driver' || reason === undefined ? '' : ` (${reason})`);

function advice() {
  if (process.platform === 'darwin')
    return 'Metal is part of macOS, so run outside of a virtual machine that hides the GPU, on macOS 13 or later.';
  if (process.platform === 'win32') return 'install the current graphics driver of your GPU (Direct3D 12).';
  if (process.platform !== 'linux')
    return `webgpu has no build for ${process.platform}; use Linux, macOS, Windows or a browser.`;
  const release = osRelease();
  const ids = [release.ID, ...(release.ID_LIKE ?? '').split(' ')];
  const has = (...names) => names.some((name) => ids.includes(name));
  if (release.VERSION_CODENAME === 'bookworm') {
    return 'install Mesa 25 from backports: add "deb http://deb.debian.org/debian bookworm-backports main" to the apt sources, then `sudo apt-get update && sudo apt-get install -t bookworm-backports mesa-vulkan-drivers libvulkan1`.';
  }
  if (has('debian', 'ubuntu'))
    return 'install Mesa 25 or later: `sudo apt-get install mesa-vulkan-drivers libvulkan1`.';
  if (has('fedora', 'rhel', 'centos'))
    return 'install Mesa 25 or later: `sudo dnf install mesa-vulkan-drivers vulkan-loader`.';
  if (has('arch'))
    return "install your GPU's driver (vulkan-radeon, vulkan-intel, nvidia-utils) or the software one: `sudo pacman -S vulkan-icd-loader vulkan-swrast`.";
  if (has('suse', 'opensuse'))
    return 'install Mesa 25 or later: `sudo zypper install Mesa-vulkan-drivers libvulkan_lvp libvulkan1`.';
  if (has('alpine')) return 'webgpu needs glibc, which Alpine does not have: use a Debian or Ubuntu image.';
  return "install your GPU's Vulkan driver, or Mesa 25 or later with lavapipe, and the Vulkan loader (libvulkan.so.1).";
}

function osRelease() {
  try {
    const lines = readFileSync('/etc/os-release', 'utf8').matchAll(/^([A-Z_]+)=(["']?)(.*)\2$/gm);
    return Object.fromEntries([...lines].map(([, key, , value]) => [key, value]));
  } catch {
    return {};
  }
}

/** The nearest folder above this file with a package.json: the same from the source and from dist/. */
function packageRoot() {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
    if (dirname(folder) === folder) return process.cwd();
  }
}

/** One line that is rewritten on a terminal, and written once elsewhere. */
function progressLine(text) {
  const terminal = process.stderr.isTTY;
  process.stderr.write(terminal ? `${text} …` : `${text}\n`);
  return {
    show: (state) => {
      if (terminal) process.stderr.write(`\r\x1b[K${text}: ${state}`);
    },
    end: () => {
      if (terminal) process.stderr.write('\r\x1b[K');
    },
  };
}

main().catch((error) => {
  console.error(error instanceof Failure ? error.message : error);
  process.exitCode = 1;
});
