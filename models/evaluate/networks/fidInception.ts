// FID's InceptionV3: TensorFlow's network of 2015 under the names of pytorch-fid's file. The weights are the user's.

import { FormatError } from '../../../core/errors.ts';
import {
  interpolate,
  linear,
  keep,
  noGrad,
  sameShape,
  scope,
  show,
  tensor,
  type Device,
  type Tensor,
} from '../../../core/index.ts';
import type { StateEntries } from '../../../nn/index.ts';
import { foldConvolution } from './folding.ts';
import {
  INCEPTION_CONVOLUTIONS,
  INCEPTION_FEATURES,
  INCEPTION_SIDE,
  inceptionBatch,
  inceptionMeans,
  type FoldedConvolution,
} from './inceptionV3.ts';
import { threeChannels, type FeatureNetwork, type Judgement } from './network.ts';

/** Of its last layer, which tells 1,008 classes apart. */
const CLASSES = 1008;

/**
 * SHA-256 of the file that FID is defined by, `pt_inception-2015-12-05-6726825d.pth` of pytorch-fid: its name has the
 * first digits.
 */
export const FID_INCEPTION_SHA256_PREFIX = '6726825d';

/** Names and shapes of all that the file must hold; counters of batches may be there too. */
export function fidInceptionShapes(): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  for (const [name, shape] of INCEPTION_CONVOLUTIONS) {
    shapes.set(`${name}.conv.weight`, shape);
    for (const part of ['weight', 'bias', 'running_mean', 'running_var']) shapes.set(`${name}.bn.${part}`, [shape[0]]);
  }
  return shapes.set('fc.weight', [CLASSES, INCEPTION_FEATURES]).set('fc.bias', [CLASSES]);
}

/** FID's network. */
export class FidInception implements FeatureNetwork {
  readonly distanceName: string;
  readonly identity: string;
  readonly features = INCEPTION_FEATURES;
  readonly classes = CLASSES;
  readonly batch: number;
  private readonly layers: ReadonlyMap<string, FoldedConvolution>;
  private readonly head: FoldedConvolution;

  /**
   * @param entries under pytorch-fid's names, `Mixed_5b.branch1x1.conv.weight` and so on
   * @param identity tells these weights from others, a hash for one
   * @param official whether they are known to be FID's own; a distance over others is called `FD(InceptionV3 …)`
   * @throws FormatError naming the first tensor that is missing or of another shape
   */
  constructor(device: Device, entries: StateEntries, { identity, official }: { identity: string; official: boolean }) {
    this.distanceName = official ? 'FID' : `FD(InceptionV3 ${identity.slice(0, 8)})`;
    this.identity = identity;
    this.batch = inceptionBatch(device);
    for (const [name, shape] of fidInceptionShapes()) {
      const found = entries.get(name);
      if (found && sameShape(found.shape, shape)) continue;
      throw new FormatError('FidInception', found ? `${name} has shape ${show(found.shape)}` : `there is no ${name}`, {
        expected: found ? show(shape) : "the tensors of pytorch-fid's InceptionV3",
        remedy: 'give the file pt_inception-2015-12-05-6726825d.pth, or its safetensors',
      });
    }
    const values = (name: string): ArrayLike<number> => entries.get(name)!.data as ArrayLike<number>;
    this.layers = new Map(
      Array.from(INCEPTION_CONVOLUTIONS, ([name, shape]) => [
        name,
        foldConvolution(device, shape, values(`${name}.conv.weight`), {
          gamma: values(`${name}.bn.weight`),
          beta: values(`${name}.bn.bias`),
          mean: values(`${name}.bn.running_mean`),
          variance: values(`${name}.bn.running_var`),
        }),
      ]),
    );
    const own = (name: string, shape: number[]): Tensor =>
      keep(tensor(device, Float32Array.from(values(name)), { shape }));
    this.head = { weight: own('fc.weight', [CLASSES, INCEPTION_FEATURES]), bias: own('fc.bias', [CLASSES]) };
  }

  judge(images: Tensor): Judgement {
    const [features] = noGrad(() => scope(() => inceptionMeans(fidResize(images), this.layers, { lastPool: 'max' })));
    // As the Inception score's authors do, without the bias.
    return { features, logits: noGrad(() => scope(() => linear(features, this.head.weight))) };
  }

  /**
   * Means over positions of the four output blocks, for comparison with other implementations.
   *
   * @throws ShapeError
   */
  blockMeans(images: Tensor): Tensor[] {
    return noGrad(() =>
      scope(() => inceptionMeans(fidResize(images), this.layers, { lastPool: 'max', blocks: [0, 1, 2, 3] })),
    );
  }

  /** Frees its weights. */
  dispose(): void {
    for (const { weight, bias } of [...this.layers.values(), this.head]) {
      weight.dispose();
      bias.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** As pytorch-fid resizes: bilinear, without antialiasing; (N, 1 | 3 | 4, H, W) in [-1, 1] → (N, 3, 299, 299). */
export function fidResize(images: Tensor): Tensor {
  const size = INCEPTION_SIDE;
  return scope(() => {
    const coloured = threeChannels(images);
    return coloured.shape[2] === size && coloured.shape[3] === size
      ? coloured
      : interpolate(coloured, { size, mode: 'bilinear' });
  });
}
