// NumPy's .npz: a ZIP archive of .npy files (numpy.lib.format, version 1.0), stored as numpy.savez does, as the
// evaluation suite of ADM (openai/guided-diffusion/evaluations) reads it. yazl writes the archive.

import { Readable } from 'node:stream';
import { ZipFile } from 'yazl';
import { writeFileAtomic } from './files.ts';

export interface NpyArray {
  readonly name: string;
  readonly header: Uint8Array;
  /** Bytes of the elements. */
  readonly size: number;
  readonly data: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** What stands before the elements: `|u1` for bytes, `<i8` for 64-bit integers, in row-major order. */
export function npyHeader(dtype: '|u1' | '<i8', shape: readonly number[]): Uint8Array {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(', ');
  const text = `{'descr': '${dtype}', 'fortran_order': False, 'shape': (${sizes}), }`;
  // The elements begin at a multiple of 64.
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const header = Buffer.alloc(10 + length, ' ');
  header.set([0x93, ...Buffer.from('NUMPY'), 1, 0, length & 255, length >> 8]);
  header.write(text, 10, 'latin1');
  header[header.length - 1] = 10;
  return header;
}

/** Writes arrays to one file, whole or not at all, a piece at a time. @throws FileError */
export async function writeNpz(path: string, arrays: readonly NpyArray[]): Promise<void> {
  const zip = new ZipFile();
  for (const { name, header, size, data } of arrays) {
    async function* pieces(): AsyncGenerator<Uint8Array> {
      yield header;
      yield* data;
    }
    const stream = Readable.from(pieces(), { objectMode: false });
    stream.on('error', (error) => (zip.outputStream as Readable).destroy(error));
    zip.addReadStream(stream, `${name}.npy`, { compress: false, size: header.length + size });
  }
  zip.end();
  await writeFileAtomic(path, zip.outputStream as Readable);
}
