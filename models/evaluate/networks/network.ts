// What a network is to the measures: something that turns pictures into features, with a name that goes with each
// number.

import { ShapeError } from '../../../core/errors.ts';
import { scope, show, type Tensor } from '../../../core/index.ts';

/** What a network makes of pictures. */
export interface Judgement {
  /** (N, features) */
  readonly features: Tensor;
  /** (N, classes), before softmax; absent where the network doesn't classify. */
  readonly logits?: Tensor;
}

/** A network whose features pictures are compared by. */
export interface FeatureNetwork {
  /** What a distance over its features is called: `FID`, `FD(nsfwjs-incv3)`, `FD(classifier)`. */
  readonly distanceName: string;
  /** Tells these weights from others: part of the name that features are cached under. */
  readonly identity: string;
  /** Features of a picture. */
  readonly features: number;
  /** 0 where it doesn't classify. */
  readonly classes: number;
  /** Pictures at once that fill a GPU and fit into its memory. */
  readonly batch: number;
  /**
   * Pictures (N, channels, H, W) in [-1, 1] → features, without gradients. The caller owns the tensors.
   *
   * @throws ShapeError
   */
  judge(images: Tensor): Judgement;
  dispose(): void;
}

/**
 * (N, 1 | 3 | 4, H, W) in [-1, 1] as red, green and blue: grey is repeated, what is transparent is laid on black.
 *
 * @throws ShapeError
 */
export function threeChannels(images: Tensor): Tensor {
  const [n, channels, height, width] = images.shape;
  if (channels === 3) return images;
  if (channels !== 1 && channels !== 4)
    throw new ShapeError('threeChannels', `The images have shape ${show(images.shape)}`, {
      expected: '1, 3 or 4 channels',
    });
  return scope(() => {
    if (channels === 1) return images.expand(n, 3, height, width).contiguous();
    const [colours, alpha] = [images.slice(1, 0, 3), images.slice(1, 3, 4)];
    return colours.add(1).mul(alpha.add(1)).mul(0.5).sub(1);
  });
}
