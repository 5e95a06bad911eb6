// ZIP archives for tests, made in memory.

import { buffer } from 'node:stream/consumers';
import sharp from 'sharp';
import { ZipFile } from 'yazl';

/** An archive of these files, in this order. */
export async function zipped(
  files: Readonly<Record<string, string | Uint8Array>>,
  { compress = true }: { compress?: boolean } = {},
): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [name, content] of Object.entries(files)) zip.addBuffer(Buffer.from(content), name, { compress });
  zip.end();
  return buffer(zip.outputStream);
}

/** A PNG of one colour. */
export function png([r, g, b]: readonly number[], size = 8): Promise<Buffer> {
  return sharp({ create: { width: size, height: size, channels: 3, background: { r, g, b } } })
    .png()
    .toBuffer();
}
