// An image file as 8-bit RGB, whatever it held: through sharp (libvips).
import sharp from 'sharp';
import { FormatError } from '../../core/errors.ts';
import type { PixelImage } from '../../models/data/image.ts';

export interface DecodeOptions {
  /** Colour (CSS syntax) that shines through transparent pixels. Default: transparency is dropped, the stored colours stay. */
  background?: string;
}

// Stops at damaged pixels, not at odd metadata, which many cameras write.
const tolerance = { failOn: 'error' } as const;

/** Width, height and format from the header; rejects when the file is not an image that sharp reads. */
export async function readImageHeader(path: string): Promise<{ width: number; height: number; format: string }> {
  const { width, height, format } = await sharp(path, tolerance).metadata();
  return { width, height, format };
}

/**
 * Decodes an image file to RGB (H, W, 3).
 *
 * Grey and palette images become RGB; 16-bit channels keep their high byte; CMYK and images with a colour profile are converted to sRGB; the
 * EXIF orientation is applied; of an animation or a TIFF of several pages the first is taken. Transparency is dropped as Pillow's
 * `convert('RGB')` does, unless a `background` is given to lay the image on.
 */
export async function decodeImage(path: string, { background }: DecodeOptions = {}): Promise<PixelImage> {
  const opened = sharp(path, tolerance).autoOrient();
  const opaque = background === undefined ? opened.removeAlpha() : opened.flatten({ background });
  const { data, info } = await opaque
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.length);
  if (channels === 3) return { data: bytes, width, height, channels };
  if (channels !== 1)
    throw new FormatError('decodeImage', `${path} decodes to ${channels} channels`, {
      expected: '1 or 3',
      remedy: 'convert it to RGB',
    });
  const rgb = new Uint8Array(bytes.length * 3);
  for (let i = 0; i < bytes.length; i++) rgb.fill(bytes[i], i * 3, i * 3 + 3);
  return { data: rgb, width, height, channels: 3 };
}
