// An image file as 8-bit pixels of a wanted number of channels, whatever it held: through sharp (libvips).
import sharp from 'sharp';
import { FormatError, ValueError } from '../../core/errors.ts';
import { convertChannels, type Channels } from '../../models/data/channels.ts';
import type { PixelImage } from '../../models/data/image.ts';
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
    pixel = await sharp({ create: { width: 1, height: 1, channels: 4, background } })
      .raw()
      .toBuffer();
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
 * Decodes an image file to (H, W, channels), by default RGB.
 *
 * Grey and palette images become RGB; 16-bit channels keep their high byte; CMYK and images with a colour profile are
 * converted to sRGB; the EXIF orientation is applied; of an animation or a TIFF of several pages the first is taken.
 * With 4 channels transparency is kept, and opaque where there is none. Else it is dropped as Pillow's
 * `convert('RGB')` does, unless a `background` is given to lay the image on, in 8-bit sRGB. Grey is the luma of sRGB.
 */
export async function decodeImage(
  source: ImageSource,
  { background, channels: wanted = 3 }: DecodeOptions = {},
): Promise<PixelImage> {
  const { data, info } = await withVips(async () => {
    const opened = sharp(source, tolerance).autoOrient();
    const kept = background === undefined && wanted !== 4 ? opened.removeAlpha() : opened;
    const decoded = await kept.toColourspace('srgb').raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    const { width, height, channels } = decoded.info;
    // The background is a colour of sRGB, so it comes after the conversion: in the file's own space (grey, CMYK) it
    // would be another.
    return background === undefined || channels !== 4
      ? decoded
      : sharp(decoded.data, { raw: { width, height, channels } })
          .flatten({ background })
          .raw({ depth: 'uchar' })
          .toBuffer({ resolveWithObject: true });
  });
  const { width, height, channels } = info;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.length);
  // Grey with alpha comes as sRGB with alpha, grey alone as one channel.
  if (channels === 1 || channels === 3 || channels === 4)
    return convertChannels({ data: bytes, width, height, channels }, wanted);
  throw new FormatError('decodeImage', `the image decodes to ${channels} channels`, {
    expected: '1, 3 or 4',
    remedy: 'convert it to RGB',
  });
}
