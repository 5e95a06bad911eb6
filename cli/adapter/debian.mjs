// Mesa's software Vulkan driver (lavapipe) from the packages of Debian and Ubuntu, without root: apt with a state of its own
// resolves and downloads, dpkg-deb unpacks, and of all that only the libraries that the driver loads are kept.

import { spawn, execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { loadOrder } from './elf.mjs';

const DRIVER = 'libvulkan_lvp.so';
const LOADER = 'libvulkan.so.1';

// Taken from the system, because Node itself runs on them, or holding no library at all.
const NOT_NEEDED = /^(libc6|libgcc-s1|libstdc\+\+6|libc-.*|.*-(base|data|common|config|bin))$/;

// The main archive, its key, and what holds a Mesa of version 25 or later where the release itself does not.
const ARCHIVES = {
  debian: {
    mirror: () => 'http://deb.debian.org/debian',
    keyring: '/usr/share/keyrings/debian-archive-keyring.gpg',
    components: 'main',
    suites: (codename) => (codename === 'bookworm' ? [codename, `${codename}-backports`] : [codename]),
    mesaFrom: (codename) => (codename === 'bookworm' ? 'bookworm-backports' : undefined),
  },
  ubuntu: {
    mirror: (arch) => (arch === 'amd64' ? 'http://archive.ubuntu.com/ubuntu' : 'http://ports.ubuntu.com/ubuntu-ports'),
    keyring: '/usr/share/keyrings/ubuntu-archive-keyring.gpg',
    components: 'main universe',
    suites: (codename) => [codename, `${codename}-updates`],
    mesaFrom: () => undefined,
  },
};

/**
 * Which archive this machine installs from.
 * @param {Record<string, string>} release fields of /etc/os-release
 * @returns {{ family: 'debian' | 'ubuntu', codename: string } | undefined} undefined where it is neither Debian nor Ubuntu, nor made of them
 */
export function debianFamily(release) {
  const ids = [release.ID, ...(release.ID_LIKE ?? '').split(' ')];
  if (ids.includes('ubuntu')) {
    const codename = release.UBUNTU_CODENAME || release.VERSION_CODENAME;
    return codename ? { family: 'ubuntu', codename } : undefined;
  }
  if (ids.includes('debian')) {
    const codename = release.DEBIAN_CODENAME || release.VERSION_CODENAME;
    return codename ? { family: 'debian', codename } : undefined;
  }
  return undefined;
}

/**
 * Puts lavapipe and the libraries that it needs into `folder`, which must be new and is used as the working space.
 * Leaves `lib/` and `lvp.json` (Vulkan's driver manifest) there; what it returns is what core/gpu/node.ts reads from driver.json.
 * @param {{ family: 'debian' | 'ubuntu', codename: string }} system
 * @param {string} folder
 * @param {(message: string) => void} progress
 * @returns {Promise<{ icd: string, preload: string[], mesa: string }>}
 */
export async function fetchLavapipe(system, folder, progress) {
  const apt = prepareApt(system, join(folder, 'apt'));
  progress('reading the package lists');
  await run('apt-get', [...apt, 'update']);

  const packages = await resolvePackages(system, apt);
  const total = packages.reduce((sum, { size }) => sum + size, 0);
  const debs = join(folder, 'debs'),
    root = join(folder, 'root'),
    lib = join(folder, 'lib');
  for (const made of [debs, root, lib]) mkdirSync(made);
  const timer = setInterval(() => {
    const done = bytesIn(debs);
    progress(`downloading ${megabytes(total)}, ${Math.min(100, Math.floor((100 * done) / total))} %`);
  }, 200);
  try {
    await run('apt-get', [...apt, 'download', ...packages.map(({ name, version }) => `${name}=${version}`)], debs);
  } finally {
    clearInterval(timer);
  }
  progress('unpacking');
  for (const deb of readdirSync(debs)) await run('dpkg-deb', ['-x', join(debs, deb), root]);

  const available = librariesIn(root);
  for (const wanted of [DRIVER, LOADER]) {
    if (!available.has(wanted)) throw new Error(`the packages of ${system.codename} hold no ${wanted}`);
  }
  const order = loadOrder([DRIVER, LOADER], available);
  for (const [name, file] of order) renameSync(file, join(lib, name));
  const manifest = {
    file_format_version: '1.0.0',
    ICD: { api_version: apiVersion(root), library_path: `./lib/${DRIVER}` },
  };
  writeFileSync(join(folder, 'lvp.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  for (const spent of [debs, root, join(folder, 'apt')]) rmSync(spent, { recursive: true, force: true });
  const mesa = packages.find(({ name }) => name === 'mesa-vulkan-drivers');
  // The loader opens the driver itself; all others have to be there before.
  const preload = [...order.keys()].filter((name) => name !== DRIVER).map((name) => `lib/${name}`);
  return { icd: 'lvp.json', preload, mesa: mesa.version.replace(/^\d+:|-.*$/g, '') };
}

/** Writes a private apt state for the machine's own mirror; returns the arguments that select it. */
function prepareApt({ family, codename }, folder) {
  const archive = ARCHIVES[family];
  for (const made of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(folder, made), { recursive: true });
  const key = existsSync(archive.keyring) ? `[signed-by=${archive.keyring}] ` : '';
  const mirror = ownMirror(family, codename) ?? archive.mirror(architecture());
  const sources = archive
    .suites(codename)
    .map((suite) => `deb ${key}${mirror} ${suite} ${archive.components}\n`)
    .join('');
  writeFileSync(join(folder, 'sources.list'), sources);
  // As if nothing were installed: the resolver then names every package, whatever this machine has.
  writeFileSync(join(folder, 'status'), '');
  writeFileSync(
    join(folder, 'apt.conf'),
    `
Dir::State "${folder}";
Dir::State::Lists "${folder}/lists";
Dir::State::status "${folder}/status";
Dir::Cache "${folder}/cache";
Dir::Etc::sourcelist "${folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "";
APT::Install-Recommends "false";
APT::Get::List-Cleanup "false";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
`,
  );
  return ['-c', join(folder, 'apt.conf'), '-qq'];
}

/** The mirror from which this machine's own apt takes the release, if it says. */
function ownMirror(family, codename) {
  let targets;
  try {
    targets = execFileSync('apt-get', ['indextargets', '--format', '$(REPO_URI) $(RELEASE) $(CODENAME) $(COMPONENT)'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  } catch {
    return undefined;
  }
  const uris = targets
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, release, name, component]) => (release === codename || name === codename) && component === 'main')
    .map(([uri]) => uri.replace(/\/$/, ''));
  // Others may publish for the same release; a mirror of the archive has its name.
  return uris.find((uri) => new RegExp(`/${family}(-ports)?$`).test(uri));
}

async function resolvePackages({ family, codename }, apt) {
  const from = ARCHIVES[family].mesaFrom(codename);
  const uris = await run('apt-get', [
    ...apt,
    '--print-uris',
    '-y',
    ...(from ? ['-t', from] : []),
    'install',
    'mesa-vulkan-drivers',
    'libvulkan1',
  ]);
  return uris.split('\n').flatMap((line) => {
    const match = /^'[^']+' ([^_\s]+)_([^_\s]+)_\S+ (\d+)/.exec(line);
    if (match === null || NOT_NEEDED.test(match[1])) return [];
    // Only libraries and drivers: of what apt also names (configuration, interpreters), the driver loads nothing.
    if (!/^(lib|mesa-|zlib)/.test(match[1])) return [];
    return [{ name: match[1], version: decodeURIComponent(match[2]), size: Number(match[3]) }];
  });
}

/** Every shared library under `root`, by file name; links resolved. */
function librariesIn(root) {
  const found = new Map();
  for (const base of ['lib', 'usr/lib']) {
    if (!existsSync(join(root, base))) continue;
    for (const triplet of readdirSync(join(root, base)).filter((name) => name.endsWith('-linux-gnu'))) {
      const folder = join(root, base, triplet);
      for (const name of readdirSync(folder)) {
        if (!/\.so(\.|$)/.test(name)) continue;
        const file = join(folder, name);
        // A link may point out of the tree, into a package that was left out.
        if (existsSync(file) && statSync(file).isFile()) found.set(name, realpathSync(file));
      }
    }
  }
  return found;
}

function apiVersion(root) {
  const folder = join(root, 'usr/share/vulkan/icd.d');
  const file = readdirSync(folder).find((name) => name.startsWith('lvp_icd'));
  return JSON.parse(readFileSync(join(folder, file), 'utf8')).ICD.api_version;
}

const architecture = () => execFileSync('dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim();

const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;

function bytesIn(folder) {
  let sum = 0;
  for (const name of readdirSync(folder)) {
    try {
      sum += statSync(join(folder, name)).size;
    } catch {
      // renamed by apt between the two calls
    }
  }
  return sum;
}

/** Runs a program; resolves to its standard output, rejects with the last line of its standard error. */
function run(program, args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    });
    let out = '',
      err = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    child.on('error', (error) => reject(new Error(`${program}: ${error.message}`)));
    child.on('close', (code) => {
      if (code === 0) resolve(out);
      else
        reject(
          new Error(
            `${program} ${args.find((arg) => /^[a-z]+$/.test(arg)) ?? ''}: ${lastLine(err) || `exit status ${code}`}`,
          ),
        );
    });
  });
}

const lastLine = (text) =>
  text
    .trim()
    .split('\n')
    .filter((line) => /^[EW]:/.test(line))
    .at(-1) ?? text.trim().split('\n').at(-1);
