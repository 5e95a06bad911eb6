// Between pictures of one, three and four channels, in the integer arithmetic of Pillow's `convert`, so that grey made
// of colour has the values that other training scripts see.
import { ValueError } from '../../core/errors.ts';
import type { Dataset } from './dataset.ts';
import { alike, brightest, checkImage, type PixelImage, type Pixels } from './image.ts';

/** Grey; red, green, blue; the same with alpha. */
export type Channels = 1 | 3 | 4;

/** The numbers of channels that a picture may have. */
export const CHANNELS: readonly Channels[] = [1, 3, 4];

/**
 * A picture with another number of channels. Grey is ITU-R 601 luma, `(19595 R + 38470 G + 7471 B + 32768) >> 16`; grey
 * becomes colour three times over; alpha that is added is opaque, alpha that is left out leaves the stored colours.
 * @throws ValueError where the picture has 2 channels or more than 4
 */
export function convertChannels<P extends Pixels>(image: PixelImage<P>, channels: Channels): PixelImage<P> {
  checkImage('convertChannels', image);
  const { data, width, height, channels: from } = image;
  if (from === channels) return image;
  if (!(CHANNELS as readonly number[]).includes(from))
    throw new ValueError('convertChannels', `the image has ${from} channels`, { expected: '1, 3 or 4' });
  const result = alike(data, width * height * channels);
  const white = brightest(data);
  for (let p = 0, q = 0; p < data.length; p += from, q += channels) {
    if (channels === 1) result[q] = luma(data[p], data[p + 1], data[p + 2]);
    else {
      for (let c = 0; c < 3; c++) result[q + c] = data[from === 1 ? p : p + c];
      if (channels === 4) result[q + 3] = white;
    }
  }
  return { data: result, width, height, channels };
}

// The weights add up to 2^16, so that grey stays what it is; 16-bit values fit into 32 bits with them.
const luma = (r: number, g: number, b: number): number => (r * 19595 + g * 38470 + b * 7471 + 32768) >>> 16;

/** The same data set with another number of channels; see `convertChannels`. */
export function withChannels(dataset: Dataset, channels: Channels): Dataset {
  if (dataset.channels === channels) return dataset;
  const { length, size, numClasses, classNames, channels: from } = dataset;
  const item: Dataset['item'] = async (index) => {
    const { pixels, label } = await dataset.item(index);
    return {
      pixels: convertChannels({ data: pixels, width: size, height: size, channels: from }, channels).data,
      label,
    };
  };
  return { length, size, channels, numClasses, classNames, item };
}
