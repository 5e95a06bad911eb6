// Trains a small convolutional network on drawings of ten shapes, and counts how many of 1,000 new drawings it knows.
//
//   npx tsx examples/classifier.ts
//
// The network and its training step, written with nn, are in models/classifier.ts: the quick start judges its samples by it.

import { openDevice } from 'dis-webgpu';
import { accuracy, trainClassifier } from '../models/classifier.ts';
import { shapesDataset } from 'dis-webgpu/models';

const size = 16;
const device = await openDevice();
const classifier = await trainClassifier(device, {
  size,
  steps: 300,
  onProgress: (step, loss) => console.log(`step ${step}, loss ${loss.toFixed(3)}`),
});

// Another seed draws other shapes than those learned from.
const known = await accuracy(classifier, shapesDataset({ size, seed: 1, length: 1000 }));
console.log(`${classifier.parameterCount()} parameters know ${(100 * known).toFixed(1)} % of 1,000 new drawings`);

classifier.dispose();
device.destroy();
