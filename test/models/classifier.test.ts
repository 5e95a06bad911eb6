import * as assert from 'uvu/assert';
import { Generator, scope, zeros } from '../../core/index.ts';
import { accuracy, Classifier, trainClassifier } from '../../models/classifier.ts';
import { shapesDataset } from '../../models/data/shapes.ts';
import { gpuSuite } from '../support.ts';

const test = gpuSuite('classifier');

test('a short training knows nearly all of new drawings', async ({ device }) => {
  const losses: number[] = [];
  using classifier = await trainClassifier(device, {
    size: 16,
    steps: 120,
    batchSize: 48,
    onProgress: (_, loss) => losses.push(loss),
  });
  assert.is(losses.length, 6);
  assert.ok(losses[5] < losses[0] / 3, `losses ${losses.join(', ')}`);
  const found = await accuracy(classifier, shapesDataset({ size: 16, seed: 77, length: 300 }));
  assert.ok(found >= 0.93, `${found} of new drawings`);
});

test('the same seed gives the same classifier', async ({ device }) => {
  const run = async (seed: number): Promise<ArrayLike<number>> => {
    using classifier = await trainClassifier(device, { size: 8, steps: 3, batchSize: 4, seed });
    return classifier.head.weight.data();
  };
  const [first, again, other] = [await run(5), await run(5), await run(6)];
  assert.equal(again, first);
  assert.not.equal(other, first);
});

test('training ends when it is asked to, and leaves nothing behind', async ({ device }) => {
  const stop = new AbortController();
  try {
    await trainClassifier(device, {
      size: 8,
      steps: 1000,
      batchSize: 4,
      signal: stop.signal,
      onProgress: () => stop.abort(new Error('enough')),
    });
    assert.unreachable();
  } catch (error) {
    assert.is((error as Error).message, 'enough');
  }
});

test('images of another size are refused', ({ device }) => {
  const g = new Generator(device);
  using classifier = new Classifier(g, { size: 12, numClasses: 4 });
  scope(() => {
    assert.equal(classifier.forward(zeros(device, [2, 3, 12, 12])).shape, [2, 4]);
    assert.throws(
      () => classifier.forward(zeros(device, [2, 3, 16, 16])),
      '[Classifier] The images have shape (2,3,16,16), expected (N,3,12,12).',
    );
    assert.throws(() => new Classifier(g, { size: 3, numClasses: 4 }), /size is 3, expected a whole number from 4 on/);
  });
  g.dispose();
});

test.run();
