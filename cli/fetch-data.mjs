// Sets of pictures to try things on, from the package archives: Fashion-MNIST from Debian's, emoji from npm's. Nothing is
// kept but the pictures; what is downloaded is checked by the hash that the archive gives. Needs Node 20, tar, xz and dpkg-deb.

import { createHash } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const HELP = `Usage: node cli/fetch-data.mjs <fashion-mnist | emoji> [folder]

  fashion-mnist  60,000 training and 10,000 test pictures of 28x28 in ten classes, as IDX files
                 (Debian's dataset-fashion-mnist, 31 MB; MIT)
  emoji          the emoji of Twitter, 64x64 with transparency, in ten class folders
                 (npm's emoji-datasource-twitter; code MIT, pictures CC BY 4.0)

The folder is data/fashion-mnist or data/emoji where none is given, and must not be there yet.

  --help         this text
`;

const DEBIAN = 'https://deb.debian.org/debian';
const NPM = 'https://registry.npmjs.org/emoji-datasource-twitter/16.0.0';
const FASHION = ['T-shirt', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'];
/** Longer answers are none of those that are asked for. */
const LARGEST = 400e6;

class Failure extends Error {}

const SETS = { 'fashion-mnist': fashionMnist, emoji };

async function main() {
  const { values, positionals } = parseArgs({ options: { help: { type: 'boolean' } }, allowPositionals: true });
  if (values.help) return void process.stdout.write(HELP);
  const [name, given, ...rest] = positionals;
  if (!Object.hasOwn(SETS, name ?? '') || rest.length > 0)
    throw new Failure(`expected fashion-mnist or emoji and a folder, see --help`);
  const folder = resolve(given ?? join('data', name));
  if (existsSync(folder)) throw new Failure(`${folder} is there already; remove it, or give another folder`);
  mkdirSync(dirname(folder), { recursive: true });
  // On the same disk, so that the folder appears whole.
  const work = mkdtempSync(join(dirname(folder), '.fetch-'));
  try {
    const made = join(work, 'made');
    mkdirSync(made);
    const what = await SETS[name](made, work);
    renameSync(made, folder);
    console.log(`${what} in ${folder}`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** From the archive's index, through the hash that stands there. */
async function fashionMnist(made, work) {
  const index = unpacked(await download(`${DEBIAN}/dists/stable/main/binary-amd64/Packages.xz`));
  const entry = index.split('\n\n').find((text) => /^Package: dataset-fashion-mnist$/m.test(text));
  if (!entry) throw new Failure(`${DEBIAN} has no dataset-fashion-mnist`);
  const field = (name) => new RegExp(`^${name}: (.+)$`, 'm').exec(entry)?.[1];
  const deb = join(work, 'data.deb');
  writeFileSync(deb, checked(await download(`${DEBIAN}/${field('Filename')}`), 'sha256', 'hex', field('SHA256')));
  run('dpkg-deb', ['-x', deb, work]);
  const from = join(work, 'usr/share/datasets/fashion-mnist');
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(made, name));
  writeFileSync(join(made, 'classes.txt'), `${FASHION.join('\n')}\n`);
  return '70,000 pictures of Fashion-MNIST';
}

/** The pictures of 64x64, in folders by the category that emoji.json gives them; those of skin tones with the plain one's. */
async function emoji(made, work) {
  const { dist } = JSON.parse((await download(NPM)).toString());
  const [, hash] = /^sha512-(\S+)$/.exec(dist.integrity) ?? [];
  const packed = join(work, 'emoji.tgz');
  writeFileSync(packed, checked(await download(dist.tarball), 'sha512', 'base64', hash));
  run('tar', ['-xzf', packed, '-C', work, 'package/emoji.json', 'package/img/twitter/64']);
  const from = join(work, 'package/img/twitter/64');
  const there = new Set(readdirSync(from));
  let count = 0;
  for (const { category, image, skin_variations: tones = {} } of JSON.parse(
    readFileSync(join(work, 'package/emoji.json'), 'utf8'),
  ))
    for (const name of [image, ...Object.values(tones).map((tone) => tone.image)]) {
      if (!/^[\w-]+\.png$/.test(name) || !there.has(name)) continue;
      const folder = join(made, category.toLowerCase().replace(/[^a-z]+/g, '-'));
      mkdirSync(folder, { recursive: true });
      copyFileSync(join(from, name), join(folder, name));
      count++;
    }
  return `${count} emoji in ${readdirSync(made).length} classes`;
}

async function download(url) {
  const answer = await fetch(url).catch((error) => {
    throw new Failure(`${url}: ${error.cause?.message ?? error.message}; check the connection`);
  });
  if (!answer.ok) throw new Failure(`${url} answers ${answer.status}`);
  if (Number(answer.headers.get('content-length') ?? 0) > LARGEST) throw new Failure(`${url} is larger than expected`);
  return Buffer.from(await answer.arrayBuffer());
}

function checked(bytes, algorithm, encoding, expected) {
  if (createHash(algorithm).update(bytes).digest(encoding) !== expected)
    throw new Failure('what was downloaded is damaged: its hash is not that of the archive; try again');
  return bytes;
}

function unpacked(bytes) {
  return run('xz', ['-dc'], bytes).toString();
}

function run(program, args, input) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { input, maxBuffer: LARGEST });
  if (error || status !== 0) throw new Failure(`${program}: ${error?.message ?? stderr.toString().trim()}`);
  return stdout;
}

main().catch((error) => {
  console.error(`fetch-data: ${error instanceof Failure ? error.message : error.stack}`);
  process.exitCode = 1;
});
