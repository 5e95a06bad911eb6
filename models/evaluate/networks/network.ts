// What a network is to the measures: something that turns pictures into features, with a name that goes with each
// number.

import { scope, type Tensor } from '../../../core/index.ts';

/** What a network makes of pictures. */
export interface Judgement {
  /** (N, features) */
  readonly features: Tensor;
  /** (N, classes), before softmax; absent where the network doesn't classify. */
  readonly logits?: Tensor;
}

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

/** (N, 1 | 3 | 4, H, W) as red, green and blue: grey is repeated, an alpha channel is left out. */
export function threeChannels(images: Tensor): Tensor {
  const [n, channels, height, width] = images.shape;
  if (channels === 3) return images;
  return scope(() => (channels === 1 ? images.expand(n, 3, height, width).contiguous() : images.slice(1, 0, 3)));
}
