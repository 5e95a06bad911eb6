// The weights of the npm package nsfwjs: read from its JavaScript as text. A package of the same form, made here, is read
// and damaged; the real one, where it is installed or DIS_NSFWJS names it, gives TensorFlow.js' activations.

import { existsSync, rmSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { findNsfwjs, openNsfwjs } from '../../cli/evaluate/nsfwjsPackage.ts';
import { keep, tensor } from '../../core/index.ts';
import { nsfwjsShapes } from '../../models/evaluate/index.ts';
import { hashValue } from '../golden/hashFormula.ts';
import { assertClose, gpuSuite, notRun } from '../support.ts';

const test = gpuSuite('nsfwjs');

const SHARDS = [1, 2, 3, 4, 5, 6];
let folder: string, models: string;
const shard = (i: number): string => join(models, `group1-shard${i}of6.min.js`);

/** The manifest as the package's minifier writes it: an object of JavaScript, not JSON. */
function manifest(change: (name: string, shape: readonly number[]) => readonly number[] = (_, shape) => shape): string {
  const entries = [...nsfwjsShapes()].map(
    ([name, shape]) =>
      `{name:"${name}",shape:[${change(name, shape).join(',')}],dtype:"float32",` +
      'quantization:{min:-.5,scale:.00390625,dtype:"uint8"}}',
  );
  return `!function(a){n.exports={modelTopology:{a:!0},weightsManifest:[{paths:["x"],weights:[${entries.join(',')}]}]}},{}]}`;
}

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dis-nsfwjs-'));
  models = join(folder, 'package', 'dist', 'models', 'inception_v3');
  await mkdir(models, { recursive: true });
  const total = [...nsfwjsShapes().values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  const each = Math.ceil(total / 6);
  for (const i of SHARDS) {
    const bytes = Buffer.alloc(Math.min(each, total - (i - 1) * each), 128);
    await writeFile(shard(i), `!function(d){({1:[function(d,h,Z){h.exports="${bytes.toString('base64')}"},{}]})}`);
  }
  await writeFile(join(models, 'model.min.js'), manifest());
});

process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

async function failure(run: () => Promise<{ dispose(): void }>): Promise<string> {
  try {
    (await run()).dispose();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('it was taken');
}

test('a package is found by its folder or by what holds it, and read', async ({ device, own }) => {
  assert.is(findNsfwjs(folder), join(folder, 'package'));
  assert.is(findNsfwjs(join(folder, 'package')), join(folder, 'package'));
  const network = own(await openNsfwjs(device, folder));
  assert.is(network.distanceName, 'FD(nsfwjs-incv3)');
  assert.match(network.identity, /^nsfwjs [0-9a-f]{16}$/);
});

test('a package that is damaged or another is refused in a sentence', async ({ device }) => {
  assert.match(await failure(() => openNsfwjs(device, tmpdir())), 'expected the folder of the npm package nsfwjs');
  const path = join(models, 'model.min.js');
  const sound = await readFile(path);
  for (const [text, words] of [
    [manifest((name, shape) => (name === 'conv2d_9/kernel' ? [9, ...shape] : shape)), 'conv2d_9/kernel has shape (9,'],
    [manifest().replaceAll('batch_normalization_3/beta', 'other'), 'other has shape'],
    ['nothing', '0 tensors'],
  ]) {
    await writeFile(path, text);
    assert.match(await failure(() => openNsfwjs(device, folder)), words);
  }
  await writeFile(path, sound);
  const whole = await readFile(shard(3));
  await writeFile(shard(3), 'h.exports=5');
  assert.match(await failure(() => openNsfwjs(device, folder)), 'holds no weights');
  await writeFile(shard(3), 'h.exports="AAAA"');
  assert.match(await failure(() => openNsfwjs(device, folder)), /bytes hold|has shape/);
  await rm(shard(3));
  assert.match(await failure(() => openNsfwjs(device, folder)), 'group1-shard3of6.min.js');
  await writeFile(shard(3), whole);
});

test("the real package's activations are those of TensorFlow.js", async ({ device, own }) => {
  const named = process.env.DIS_NSFWJS;
  let real: string;
  try {
    real = findNsfwjs(named);
  } catch (error) {
    if (named !== undefined) throw error;
    return notRun('nsfwjs is not installed: DIS_NSFWJS names the folder of the package');
  }
  assert.ok(existsSync(real));
  const path = new URL('nsfwjsReference.json', import.meta.url);
  const reference = JSON.parse(await readFile(path, 'utf8')) as {
    side: number;
    features: number[];
    probabilities: number[];
  };
  const { side } = reference;
  const pixels = new Float32Array(3 * side * side);
  for (let y = 0, i = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      for (let c = 0; c < 3; c++, i++) {
        const wave = Math.sin(6 * (x / side) * (1 + c) + 4 * (y / side) * (3 - c) + 1.3 * c);
        pixels[(c * side + y) * side + x] = Math.round(127.5 + 90 * wave + 30 * hashValue(i, 0, 5)) / 127.5 - 1;
      }
  const network = own(await openNsfwjs(device, named));
  const found = network.judge(own(keep(tensor(device, pixels, { shape: [1, 3, side, side] }))));
  const features = (await own(found.features).data()) as Float32Array;
  assertClose(features.subarray(0, 256), reference.features, 1e-4, 'features');
  const logits = (await own(found.logits!).data()) as Float32Array;
  const shares = Array.from(logits, (value) => Math.exp(value - Math.max(...logits)));
  const sum = shares.reduce((a, b) => a + b, 0);
  assertClose(
    shares.map((value) => value / sum),
    reference.probabilities,
    1e-4,
    'probabilities',
  );
});

test.run();
