// An image file as pixels of a wanted number of channels, whatever it held: through sharp (libvips).

import type { OutputInfo, Sharp } from 'sharp';
import { sharp } from '../sharp.ts';
import { FormatError, ValueError } from '../../core/errors.ts';
import { convertChannels, type Channels } from '../../models/data/channels.ts';
import type { PixelImage, Pixels } from '../../models/data/image.ts';
import { withVips } from '../libvips.ts';

export interface DecodeOptions {
  /** Grey, colour, or colour with alpha. Default 3. */
  channels?: Channels;
  /**
   * Colour (CSS syntax) that shines through transparent pixels. Default: transparency is dropped, the stored colours
   * stay.
   */
  background?: string;
}

/** A file by its path, or its bytes. */
export type ImageSource = string | Uint8Array;

// Stops at damaged pixels, not at odd metadata, which many cameras write.
const tolerance = { failOn: 'error' } as const;

/**
 * Checks a background once, before any file is decoded with it.
 * @throws ValueError for what is no colour, or a transparent one
 */
export async function checkBackground(background: string): Promise<void> {
  const bad = (what: string): ValueError =>
    new ValueError('decodeImage', `is ${JSON.stringify(background)}, which is ${what}`, {
      option: 'background',
      expected: 'an opaque colour as in CSS',
      remedy: 'give a name such as white, or #ffffff',
    });
  let pixel: Uint8Array;
  try {
    pixel = await colourOf(background);
  } catch {
    throw bad('no colour');
  }
  if (pixel[3] !== 255) throw bad('transparent itself');
}

/** What a file's header says; channels are 4 where there is transparency, grey or not. */
export interface ImageHeader {
  readonly width: number;
  readonly height: number;
  readonly format: string;
  readonly channels: Channels;
}

/** Reads the header; rejects when the file is not an image that sharp reads. */
export async function readImageHeader(source: ImageSource): Promise<ImageHeader> {
  const { width, height, format, channels, hasAlpha } = await withVips(() => sharp(source, tolerance).metadata());
  return { width, height, format, channels: hasAlpha ? 4 : channels === 1 ? 1 : 3 };
}

/**
 * Decodes an image file to 8-bit (H, W, channels), by default RGB.
 *
 * Grey and palette images become RGB; 16-bit channels keep their high byte; CMYK and images with a colour profile are
 * converted to sRGB; the EXIF orientation is applied; of an animation or a TIFF of several pages the first is taken.
 * With 4 channels transparency is kept, and opaque where there is none. Else it is dropped as Pillow's
 * `convert('RGB')` does, unless a `background` is given to lay the image on, in 8-bit sRGB. Grey is the luma of sRGB.
 */
export async function decodeImage(source: ImageSource, options: DecodeOptions = {}): Promise<PixelImage> {
  const { background, channels: wanted = 3 } = options;
  const decoded = await withVips(async () => {
    const { data, info } = await opened(source, options)
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const { width, height, channels } = info;
    // The background is a colour of sRGB, so it comes after the conversion: in the file's own space (grey, CMYK) it
    // would be another.
    return background === undefined || channels !== 4
      ? { data, info }
      : sharp(data, { raw: { width, height, channels } })
          .flatten({ background })
          .raw({ depth: 'uchar' })
          .toBuffer({ resolveWithObject: true });
  });
  const { data, info } = decoded;
  return withWanted(new Uint8Array(data.buffer, data.byteOffset, data.length), info, wanted);
}

/** The same, but 16 bits of a file that has them stay 16 bits. */
export async function decodeDeep(source: ImageSource, options: DecodeOptions = {}): Promise<PixelImage<Pixels>> {
  const { background, channels: wanted = 3 } = options;
  const { depth } = await withVips(() => sharp(source, tolerance).metadata());
  if (depth !== 'ushort') return decodeImage(source, options);
  const { data, info } = await withVips(() =>
    opened(source, options).toColourspace('rgb16').raw({ depth: 'ushort' }).toBuffer({ resolveWithObject: true }),
  );
  // A copy, since words must begin at even places.
  const words = new Uint16Array(Uint8Array.from(data).buffer);
  if (background !== undefined && info.channels === 4) layOn(words, await colourOf(background));
  return withWanted(words, info, wanted);
}

/** With its transparency where that is wanted or laid on a background. */
function opened(source: ImageSource, { background, channels }: DecodeOptions): Sharp {
  const image = sharp(source, tolerance).autoOrient();
  return background === undefined && channels !== 4 ? image.removeAlpha() : image;
}

function withWanted<P extends Pixels>(
  data: P,
  { width, height, channels }: OutputInfo,
  wanted: Channels,
): PixelImage<P> {
  // Grey with alpha comes as sRGB with alpha, grey alone as one channel.
  if (channels === 1 || channels === 3 || channels === 4)
    return convertChannels({ data, width, height, channels }, wanted);
  throw new FormatError('decodeImage', `the image decodes to ${channels} channels`, {
    expected: '1, 3 or 4',
    remedy: 'convert it to RGB',
  });
}

/** Lays 16-bit RGBA on an 8-bit colour. */
function layOn(data: Uint16Array, background: ArrayLike<number>): void {
  for (let p = 0; p < data.length; p += 4) {
    const alpha = data[p + 3];
    for (let c = 0; c < 3; c++)
      data[p + c] = Math.round((data[p + c] * alpha + background[c] * 257 * (65535 - alpha)) / 65535);
    data[p + 3] = 65535;
  }
}

/** Red, green, blue and alpha of a colour as CSS writes it. */
const colourOf = (background: string): Promise<Buffer> =>
  sharp({ create: { width: 1, height: 1, channels: 4, background } })
    .raw()
    .toBuffer();
