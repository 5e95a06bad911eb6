// The crop that the official training script applies to every image; it goes back to OpenAI's guided-diffusion
// (image_datasets.py).
import { ValueError } from '../../core/errors.ts';
import { blankTransparent, premultiply, unpremultiply } from './alpha.ts';
import type { PixelImage, Pixels } from './image.ts';
import { checkImage, cropImage } from './image.ts';
import { resize } from './resize.ts';

/** Rounds halves to the even neighbour, as Python's `round` does. */
export function roundHalfToEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return rest < 0.5 ? below : below + 1;
  return below % 2 === 0 ? below : below + 1;
}

/**
 * The central `size` x `size` square of an image: halves with the box filter while the shorter side is at least 2 *
 * size, resizes by bicubic so that the shorter side is `size` (sides rounded half to even), then crops from
 * `(side - size) // 2`. Pixels equal those of the official `center_crop_arr`; 16-bit
 * images keep their depth. Of four channels the last is alpha:
 * colours are resampled weighted by it, and black where it is 0.
 * @throws ValueError when `size` is not a positive integer
 */
export function centerCropArr<P extends Pixels>(image: PixelImage<P>, size: number): PixelImage<P> {
  checkImage('centerCropArr', image);
  if (!Number.isSafeInteger(size) || size < 1) {
    throw new ValueError('centerCropArr', `is ${size}`, {
      option: 'size',
      expected: 'a positive integer',
      remedy: 'check the requested image size',
    });
  }
  if (image.channels !== 4) return shrink(image, size);
  return Math.min(image.width, image.height) === size
    ? blankTransparent(shrink(image, size)) // nothing is resampled
    : unpremultiply(shrink(premultiply(image), size));
}

function shrink<P extends Pixels>(image: PixelImage<P>, size: number): PixelImage<P> {
  let current = image;
  while (Math.min(current.width, current.height) >= 2 * size) {
    current = resize(current, current.width >> 1, current.height >> 1, 'box');
  }
  const scale = size / Math.min(current.width, current.height);
  current = resize(current, roundHalfToEven(current.width * scale), roundHalfToEven(current.height * scale), 'bicubic');
  return cropImage(current, (current.width - size) >> 1, (current.height - size) >> 1, size, size);
}
