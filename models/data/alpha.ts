// Transparency while a picture is resampled: colours are weighted by their alpha, so that what is hidden doesn't bleed
// into what is seen. The arithmetic is Pillow's, which converts RGBA to RGBa, resizes and converts back.
import { brightest, type PixelImage, type Pixels } from './image.ts';

/** Colours times alpha: `round(c * a / white)`, white being 255 or 65535. */
export function premultiply<P extends Pixels>(image: PixelImage<P>): PixelImage<P> {
  const data = image.data.slice() as P;
  const white = brightest(data);
  for (let p = 0; p < data.length; p += 4) {
    const alpha = data[p + 3];
    for (let c = p; c < p + 3; c++) data[c] = Math.round((data[c] * alpha) / white);
  }
  return { ...image, data };
}

/** Colours over alpha, `floor(white * c / a)`; black where nothing is seen. */
export function unpremultiply<P extends Pixels>(image: PixelImage<P>): PixelImage<P> {
  const data = image.data.slice() as P;
  const white = brightest(data);
  for (let p = 0; p < data.length; p += 4) {
    const alpha = data[p + 3];
    if (alpha === white) continue;
    for (let c = p; c < p + 3; c++) data[c] = alpha === 0 ? 0 : Math.min(white, Math.floor((white * data[c]) / alpha));
  }
  return { ...image, data };
}

/** Black in place of the colours of pixels that are wholly transparent: what files store there is arbitrary. */
export function blankTransparent<P extends Pixels>(image: PixelImage<P>): PixelImage<P> {
  const data = image.data.slice() as P;
  for (let p = 0; p < data.length; p += 4) if (data[p + 3] === 0) data.fill(0, p, p + 3);
  return { ...image, data };
}
