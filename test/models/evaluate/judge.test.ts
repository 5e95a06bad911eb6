import * as assert from 'uvu/assert';
import { Generator, keep, scope, tensor, type Tensor } from '../../../core/index.ts';
import { Classifier, trainClassifier } from '../../../models/classifier.ts';
import type { Dataset } from '../../../models/data/dataset.ts';
import { shapesDataset } from '../../../models/data/shapes.ts';
import {
  ClassifierNetwork,
  featureStatistics,
  frechetDistance,
  judgePictures,
  PictureJudge,
} from '../../../models/evaluate/index.ts';
import { threeChannels } from '../../../models/evaluate/networks/network.ts';
import { assertClose, gpuSuite } from '../../support.ts';

const test = gpuSuite('judging pictures');

const untrained = (generator: Generator, size: number): ClassifierNetwork =>
  new ClassifierNetwork(new Classifier(generator, { size, numClasses: 10 }).eval(), { identity: 'untrained' });

test('features are those of each picture by itself, whatever the batch and the part', async ({ device, own }) => {
  const network = own(untrained(own(new Generator(device, 1)), 16));
  const dataset = shapesDataset({ size: 16, length: 23 });
  const all = await judgePictures(device, network, dataset, { batch: 7 });
  assert.is(all.features.count, 23);
  assert.is(all.features.dim, 48);
  const part = await judgePictures(device, network, dataset, { begin: 4, end: 9, batch: 256 });
  assertClose(part.features.data, all.features.data.subarray(4 * 48, 9 * 48), 1e-6, 'part');
  assertClose(part.probabilities!.data, all.probabilities!.data.subarray(40, 90), 1e-6, 'probabilities');
  for (let i = 0; i < 23; i++) {
    const row = all.probabilities!.data.subarray(i * 10, (i + 1) * 10);
    assertClose([row.reduce((a, b) => a + b, 0)], [1], 1e-5, `probabilities of ${i}`);
  }
});

test('one judge takes several sets, and tells how far it is', async ({ device, own }) => {
  const judge = own(new PictureJudge(device, own(untrained(own(new Generator(device, 2)), 16)), { batch: 8 }));
  const told: number[] = [];
  const first = await judge.judge(shapesDataset({ size: 16, length: 20 }), { onProgress: (done) => told.push(done) });
  assert.equal(told, [8, 16, 20]);
  const again = await judge.judge(shapesDataset({ size: 16, length: 5 }));
  assert.equal(again.features.data, first.features.data.subarray(0, 5 * 48));
});

test('pictures of another size are brought to that of the classifier', async ({ device, own }) => {
  const network = own(untrained(own(new Generator(device, 3)), 16));
  const found = await judgePictures(device, network, shapesDataset({ size: 24, length: 3 }));
  assert.is(found.features.data.length, 3 * 48);
});

test('a classifier learns any labelled data set; its distance tells it from others', async ({ device, own }) => {
  // Grey, three classes: the shapes' first ones, 12 pixels wide.
  const shapes = shapesDataset({ size: 12, length: 600 });
  const grey: Dataset = {
    length: 180,
    size: 12,
    channels: 1,
    numClasses: 3,
    classNames: ['circle', 'square', 'triangle'],
    item: async (i) => {
      const { pixels, label } = await shapes.item(Math.floor(i / 3) * 10 + (i % 3));
      return { pixels: pixels.filter((_, p) => p % 3 === 0), label };
    },
  };
  const noisy: Dataset = {
    ...grey,
    item: async (i) => {
      const { pixels, label } = await grey.item(i);
      return { pixels: pixels.map((value, p) => (p % 2 ? 255 - value : value)), label };
    },
  };
  const losses: number[] = [];
  const classifier = await trainClassifier(device, {
    dataset: grey,
    steps: 40,
    batchSize: 32,
    onProgress: (_, loss) => losses.push(loss),
  });
  assert.is(losses.length, 2);
  const network = own(new ClassifierNetwork(classifier, { identity: 'grey' }));
  assert.equal([network.features, network.classes], [48, 3]);
  const statistics = async (dataset: Dataset, begin: number, end: number) =>
    featureStatistics(device, (await judgePictures(device, network, dataset, { begin, end })).features);
  const reference = await statistics(grey, 0, 90);
  const [same, other] = [await statistics(grey, 90, 180), await statistics(noisy, 90, 180)];
  const [floor, distance] = [await frechetDistance(same, reference), await frechetDistance(other, reference)];
  assert.ok(floor < distance / 3, `${floor} and ${distance}`);
});

test('a data set without classes trains no classifier', async ({ device }) => {
  try {
    await trainClassifier(device, { dataset: { ...shapesDataset({ size: 8, length: 4 }), numClasses: 0 } });
    assert.unreachable();
  } catch (error) {
    assert.match((error as Error).message, /has no classes, expected at least 2/);
  }
});

test('grey and transparent pictures are made colour', async ({ device, own }) => {
  const made = (values: number[], channels: number): Tensor =>
    own(keep(tensor(device, Float32Array.from(values), { shape: [1, channels, 1, 2] })));
  const grey = own(scope(() => threeChannels(made([0.5, -1], 1))));
  assertClose(await grey.data(), [0.5, -1, 0.5, -1, 0.5, -1], 0);
  const laid = own(scope(() => threeChannels(made([1, 1, 0, 0, -1, 1, 1, -1], 4))));
  assertClose(await laid.data(), [1, -1, 0, -1, -1, -1], 1e-6);
});

test.run();
