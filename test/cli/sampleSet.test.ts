// Sets of samples for an evaluation: the same images whatever the batch, after an interruption, and by parts.

import { rmSync } from 'node:fs';
import { mkdtemp, readFile, readdir, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import * as assert from 'uvu/assert';
import yauzl from 'yauzl';
import { openData } from '../../cli/data/openData.ts';
import { npyHeader } from '../../cli/npz.ts';
import { decodeImage } from '../../cli/data/decodeImage.ts';
import { beginSampleSet, drawGroups, finishSampleSet, labelOfSample, type SampleSet } from '../../cli/sampleSet.ts';
import type { SampleSetIdentity } from '../../cli/sampleSetIdentity.ts';
import { Generator, noGrad, scope, type Device } from '../../core/index.ts';
import { Dis, disConfig } from '../../models/dis/index.ts';
import { ddim } from '../../models/diffusion/index.ts';
import { gpuSuite } from '../support.ts';

const test = gpuSuite('sample sets');

const IDENTITY: SampleSetIdentity = {
  checkpoint: 'x',
  seed: 3,
  batch: 3,
  sampler: 'ddim',
  eta: 1,
  steps: 3,
  guidance: 1.5,
  guidanceChannels: null,
  precision: 'f32',
  classes: [2, 0, 1],
  labels: 'cycle',
  shape: [8, 8, 1],
};

const folders: string[] = [];
async function place(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sets-'));
  folders.push(folder);
  return folder;
}
process.once('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** Draws what is missing of a set, but for groups that another process has. */
async function draw(
  device: Device,
  set: SampleSet,
  { only, stopAfter }: { only?: number[]; stopAfter?: number } = {},
): Promise<void> {
  const generator = new Generator(device, 1);
  const config = disConfig('DiS-N/4', {
    imgSize: 8,
    channels: 1,
    numClasses: 3,
    embedDim: 16,
    depth: 2,
    learnSigma: false,
  });
  const model = scope(() => new Dis(generator, config)).eval();
  // A new model's last layer is zero, and nothing of the rest would be seen.
  const { weight } = model.final_layer.linear;
  noGrad(() => scope(() => weight.copy_(generator.normal(weight.shape))));
  generator.dispose();
  const stop = new AbortController();
  try {
    const missing = await beginSampleSet(set);
    await drawGroups(set, only ? missing.filter((group) => only.includes(group)) : missing, {
      device,
      model,
      diffusion: { diffusionSteps: 1000, learnSigma: false },
      guidance: { scale: set.identity.guidance },
      sampler: ddim({ eta: set.identity.eta }),
      steps: set.identity.steps,
      signal: stop.signal,
      onProgress: (images) => {
        if (stopAfter !== undefined && images > stopAfter) stop.abort(new Error('stopped'));
      },
    });
  } finally {
    model.dispose();
  }
}

/** The arrays of a .npz file: what NumPy finds, read by another program. */
async function npz(path: string): Promise<Record<string, { header: string; data: Buffer }>> {
  const zip = await yauzl.openPromise(path);
  const arrays: Record<string, { header: string; data: Buffer }> = {};
  for await (const entry of zip.eachEntry()) {
    const bytes = await buffer(await zip.openReadStreamPromise(entry));
    assert.equal([...bytes.subarray(0, 8)], [0x93, ...Buffer.from('NUMPY'), 1, 0]);
    const end = 10 + bytes.readUInt16LE(8);
    assert.is(end % 64, 0);
    arrays[entry.fileName] = { header: bytes.toString('latin1', 10, end).trimEnd(), data: bytes.subarray(end) };
  }
  return arrays;
}

test('a .npz holds the images and labels; those of other batches and of two processes are the same', async ({
  device,
}) => {
  const folder = await place();
  const made: Record<string, Buffer> = {};
  for (const batch of [3, 5]) {
    const set = { out: join(folder, `b${batch}.npz`), count: 7, identity: { ...IDENTITY, batch } };
    if (batch === 3) {
      // Two parts, the later one first.
      await draw(device, set, { only: [2] });
      await draw(device, set, { only: [0, 1] });
    } else await draw(device, set);
    await finishSampleSet(set);
    const arrays = await npz(set.out);
    assert.equal(Object.keys(arrays), ['arr_0.npy', 'arr_1.npy']);
    assert.is(arrays['arr_0.npy'].header, "{'descr': '|u1', 'fortran_order': False, 'shape': (7, 8, 8, 1), }");
    assert.is(arrays['arr_1.npy'].header, "{'descr': '<i8', 'fortran_order': False, 'shape': (7,), }");
    const labels = arrays['arr_1.npy'].data;
    assert.equal(
      Array.from({ length: 7 }, (_, i) => Number(labels.readBigInt64LE(8 * i))),
      [2, 0, 1, 2, 0, 1, 2],
    );
    made[batch] = arrays['arr_0.npy'].data;
    assert.is(made[batch].length, 7 * 64);
    assert.equal(
      (await readdir(folder)).filter((name) => name.includes('parts')),
      [],
    );
  }
  // Kernels may round otherwise for other shapes: by one of 255 at most, and here hardly ever.
  const differences = made[3].map((v, i) => Math.abs(v - made[5][i]));
  assert.ok(Math.max(...differences) <= 1, `off by ${Math.max(...differences)}`);
  assert.ok(differences.filter((v) => v > 0).length <= 0.01 * differences.length);
  assert.ok(new Set(made[3]).size > 20);
});

test('a folder goes on where it was interrupted, can be made larger, and opens as a data set', async ({ device }) => {
  const folder = await place();
  const set: SampleSet = { out: join(folder, 'set'), count: 6, identity: { ...IDENTITY, labels: 'random' } };
  const stopped = await draw(device, set, { stopAfter: 4 }).then(
    () => undefined,
    (error: Error) => error.message,
  );
  assert.is(stopped, 'stopped');
  assert.equal(await beginSampleSet(set), [1]);
  const kept = await readFile(join(set.out, '00000', 'img00000001.png'));
  // A picture that was being written when the power went.
  await truncate(join(set.out, '00000', 'img00000000.png'), 0);
  assert.equal(await beginSampleSet(set), [0, 1]);
  await draw(device, set);
  const larger = { ...set, count: 8 };
  assert.equal(await beginSampleSet(larger), [2]);
  await draw(device, larger);
  await finishSampleSet(larger);
  assert.equal(await readFile(join(set.out, '00000', 'img00000001.png')), kept);
  const { dataset } = await openData(set.out, { size: 8 });
  assert.equal([dataset.length, dataset.channels], [8, 1]);
  for (let i = 0; i < 8; i++) {
    const { pixels, label } = await dataset.item(i);
    assert.is(label, labelOfSample(i, set.identity));
    const path = join(set.out, '00000', `img${String(i).padStart(8, '0')}.png`);
    assert.equal([...pixels], [...(await decodeImage(path, { channels: 1 })).data]);
  }
});

test('another set in the same place, or other files, are refused; so is more than fits on the disk', async () => {
  const folder = await place();
  const set: SampleSet = { out: join(folder, 'set'), count: 4, identity: IDENTITY };
  await beginSampleSet(set);
  const refusal = (other: SampleSet): Promise<string> =>
    beginSampleSet(other).then(
      () => '',
      (error: Error) => error.message,
    );
  assert.match(
    await refusal({ ...set, identity: { ...IDENTITY, seed: 4 } }),
    /samples of another kind: seed was 3 and is 4/,
  );
  await writeFile(join(set.out, 'set.json'), '{"seed": -1}');
  assert.match(await refusal(set), /set.json: .* expected .*remove the folder/);
  const other = join(folder, 'other');
  await writeFile(join(await place(), 'x'), '');
  assert.match(await refusal({ ...set, out: folders.at(-1)! }), /is not empty and holds no set of samples/);
  assert.match(
    await refusal({ ...set, out: `${other}.npz`, count: 1e14, identity: { ...IDENTITY, batch: 1e9 } }),
    /the disk has .* free/,
  );
});

test('random labels follow the seed and the number alone, and reach every class', () => {
  const random: SampleSetIdentity = { ...IDENTITY, labels: 'random', classes: [0, 1, 2, 3] };
  const labels = Array.from({ length: 400 }, (_, i) => labelOfSample(i, random)!);
  for (const label of [0, 1, 2, 3]) assert.ok(Math.abs(labels.filter((each) => each === label).length - 100) < 35);
  assert.is(labelOfSample(7, { ...random, batch: 9 }), labels[7]);
  assert.is.not(labels.join(), Array.from({ length: 400 }, (_, i) => labelOfSample(i, { ...random, seed: 4 })).join());
  assert.is(labelOfSample(7, { ...random, classes: null }), undefined);
});

test('a header of .npy is what numpy.lib.format writes', () => {
  const text = Buffer.from(npyHeader('|u1', [50_000, 32, 32, 3])).toString('latin1');
  assert.is(text.length, 128);
  assert.is(
    text.slice(10),
    `${"{'descr': '|u1', 'fortran_order': False, 'shape': (50000, 32, 32, 3), }".padEnd(117)}\n`,
  );
});

test.run();
