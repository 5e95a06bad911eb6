// The set-up of the adapter, without a network: which libraries a driver needs and in what order, which archive a system
// installs from, and what the command says.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { debianFamily } from '../../cli/adapter/debian.mjs';
import { loadOrder, readDynamic } from '../../cli/adapter/elf.mjs';

const SCRIPT = fileURLToPath(new URL('../../cli/setup-adapter.mjs', import.meta.url));

const test = suite<{ folder: string }>('setup-adapter', { folder: '' });
test.before.each((context) => {
  context.folder = mkdtempSync(join(tmpdir(), 'setup-adapter-'));
});
test.after.each((context) => rmSync(context.folder, { recursive: true, force: true }));

/** The smallest 64-bit ELF file with a dynamic section: header, two program headers, tags, strings. */
function elf(soname: string | undefined, needed: readonly string[]): Buffer {
  let strings = '\0';
  const intern = (text: string): bigint => {
    const at = strings.length;
    strings += `${text}\0`;
    return BigInt(at);
  };
  const tags: [bigint, bigint][] = needed.map((name) => [1n, intern(name)]);
  if (soname !== undefined) tags.push([14n, intern(soname)]);
  const dynamicAt = 64 + 2 * 56,
    dynamicSize = (tags.length + 2) * 16,
    stringsAt = dynamicAt + dynamicSize;
  const address = 0x10000; // where the file is mapped: addresses are not offsets
  tags.push([5n, BigInt(address + stringsAt)], [0n, 0n]);

  const file = Buffer.alloc(stringsAt + strings.length);
  file.write('\x7fELF\x02\x01\x01', 'latin1');
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  const segments = [
    [1, 0, file.length],
    [2, dynamicAt, dynamicSize],
  ];
  segments.forEach(([type, offset, size], i) => {
    const at = 64 + i * 56;
    file.writeUInt32LE(type, at);
    file.writeBigUInt64LE(BigInt(offset), at + 8);
    file.writeBigUInt64LE(BigInt(address + offset), at + 16);
    file.writeBigUInt64LE(BigInt(size), at + 32);
  });
  tags.forEach(([tag, value], i) => {
    file.writeBigInt64LE(tag, dynamicAt + i * 16);
    file.writeBigUInt64LE(value, dynamicAt + i * 16 + 8);
  });
  file.write(strings, stringsAt, 'latin1');
  return file;
}

function write(folder: string, libraries: Record<string, readonly string[]>): Map<string, string> {
  return new Map(
    Object.entries(libraries).map(([name, needed]) => {
      const path = join(folder, name);
      writeFileSync(path, elf(name, needed));
      return [name, path];
    }),
  );
}

test('readDynamic gives name and needs, and nothing for other files', ({ folder }) => {
  const library = join(folder, 'a'),
    text = join(folder, 'b'),
    short = join(folder, 'c');
  writeFileSync(library, elf('liba.so.1', ['libb.so.2', 'libc.so.6']));
  writeFileSync(text, 'GROUP ( libc.so.6 )'.padEnd(200));
  writeFileSync(short, '\x7fELF');
  assert.equal(readDynamic(library), { soname: 'liba.so.1', needed: ['libb.so.2', 'libc.so.6'] });
  assert.is(readDynamic(text), undefined);
  assert.is(readDynamic(short), undefined);
});

test('loadOrder puts each library after what it needs, once, and leaves the rest out', ({ folder }) => {
  const available = write(folder, {
    'driver.so': ['libllvm.so', 'libz.so', 'libc.so.6'],
    'libllvm.so': ['libxml.so', 'libz.so'],
    'libxml.so': ['libz.so'],
    'libz.so': [],
    'unrelated.so': ['libz.so'],
    'loader.so': [],
  });
  available.set('libllvm.so.15', available.get('libllvm.so')!); // a second name of the same file
  const order = loadOrder(['driver.so', 'loader.so'], available);
  assert.equal([...order.keys()], ['libz.so', 'libxml.so', 'libllvm.so', 'driver.so', 'loader.so']);
  assert.is(order.get('libz.so'), join(folder, 'libz.so'));
});

test('loadOrder ends where libraries need each other', ({ folder }) => {
  const available = write(folder, { 'a.so': ['b.so'], 'b.so': ['a.so'] });
  assert.equal([...loadOrder(['a.so'], available).keys()], ['b.so', 'a.so']);
});

test('debianFamily tells the archive of Debian, Ubuntu and what is made of them', () => {
  assert.equal(debianFamily({ ID: 'debian', VERSION_CODENAME: 'bookworm' }), {
    family: 'debian',
    codename: 'bookworm',
  });
  assert.equal(debianFamily({ ID: 'ubuntu', ID_LIKE: 'debian', VERSION_CODENAME: 'noble', UBUNTU_CODENAME: 'noble' }), {
    family: 'ubuntu',
    codename: 'noble',
  });
  assert.equal(
    debianFamily({ ID: 'linuxmint', ID_LIKE: 'ubuntu debian', VERSION_CODENAME: 'wilma', UBUNTU_CODENAME: 'noble' }),
    { family: 'ubuntu', codename: 'noble' },
  );
  assert.is(debianFamily({ ID: 'fedora', VERSION_CODENAME: '' }), undefined);
  assert.is(debianFamily({}), undefined);
});

function run(...args: string[]): { status: number | null; out: string; err: string } {
  const env = { ...process.env };
  delete env.DIS_VULKAN_DIR;
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, ...args], { encoding: 'utf8', env });
  return { status, out: stdout.trim(), err: stderr.trim() };
}

test('the command explains itself and refuses what it does not know', () => {
  const help = run('--help');
  assert.is(help.status, 0);
  assert.match(help.out, /^Usage: .*--install[^]*--force[^]*--dir/);
  assert.equal(run('--forced'), { status: 1, out: '', err: "Unknown option '--forced'; see --help." });
});

test('a whole driver folder is taken as it is, without looking for adapters', ({ folder }) => {
  mkdirSync(join(folder, 'lib'));
  for (const file of ['lvp.json', 'lib/a.so']) writeFileSync(join(folder, file), '');
  writeFileSync(
    join(folder, 'driver.json'),
    JSON.stringify({ icd: 'lvp.json', preload: ['lib/a.so'], mesa: '25.0.7' }),
  );
  const { status, out } = run('--dir', folder);
  assert.is(status, 0);
  assert.match(out, /^adapter: software Vulkan \(Mesa 25\.0\.7 lavapipe\) in /);
  assert.ok(existsSync(join(folder, 'lib/a.so')));
});

test.run();
