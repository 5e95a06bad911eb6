// Transparency while a picture is resampled: colours are weighted by their alpha, so that what is hidden doesn't bleed
// into what is seen. The arithmetic is Pillow's, which converts RGBA to RGBa, resizes and converts back.
import type { PixelImage } from './image.ts';

/** Colours times alpha: `round(c * a / 255)`, halves up. */
export function premultiply(image: PixelImage): PixelImage {
  const data = image.data.slice();
  for (let p = 0; p < data.length; p += 4) {
    const alpha = data[p + 3];
    for (let c = p; c < p + 3; c++) {
      const product = data[c] * alpha + 128;
      data[c] = ((product >> 8) + product) >> 8;
    }
  }
  return { ...image, data };
}

/** Colours over alpha, `floor(255 * c / a)`; black where nothing is seen. */
export function unpremultiply(image: PixelImage): PixelImage {
  const data = image.data.slice();
  for (let p = 0; p < data.length; p += 4) {
    const alpha = data[p + 3];
    if (alpha === 255) continue;
    for (let c = p; c < p + 3; c++) data[c] = alpha === 0 ? 0 : Math.min(255, Math.floor((255 * data[c]) / alpha));
  }
  return { ...image, data };
}

/** Black in place of the colours of pixels that are wholly transparent: what files store there is arbitrary. */
export function blankTransparent(image: PixelImage): PixelImage {
  const data = image.data.slice();
  for (let p = 0; p < data.length; p += 4) if (data[p + 3] === 0) data.fill(0, p, p + 3);
  return { ...image, data };
}
