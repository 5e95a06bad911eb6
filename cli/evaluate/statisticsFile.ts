// Stored statistics of a set: mean and covariance as .npz (mu and sigma, as pytorch-fid writes them) or as safetensors,
// which also says of how many pictures and of which network.

import { readFile, stat } from 'node:fs/promises';
import yazl from 'yazl';
import { FormatError } from '../../core/errors.ts';
import type { FeatureStatistics } from '../../models/evaluate/index.ts';
import { byteSource, readSafetensors, writeSafetensors } from '../../nn/index.ts';
import { readZipDirectory, readZipRecord } from '../../nn/formats/pt/zip.ts';
import { UsageError } from '../errors.ts';
import { fileError, writeFileAtomic } from '../files.ts';

/** Statistics with what is known of them. */
export interface StoredStatistics {
  readonly statistics: FeatureStatistics;
  /** Distance's name under the network they are of; undefined where the file doesn't say. */
  readonly network?: string;
  /** Whether the file says how many pictures there were. */
  readonly counted: boolean;
}

/** More features than any network has. */
const MOST = 16_384;

/** Whether a name is one of statistics, not of data. */
export const isStatisticsName = (path: string): boolean => /\.(npz|safetensors)$/i.test(path);

/** @throws UsageError for an ending that is none of statistics */
export function checkStatisticsName(path: string, flag: string): void {
  if (isStatisticsName(path)) return;
  throw new UsageError(`${flag} is ${JSON.stringify(path)}, expected a file that ends in .npz or .safetensors.`);
}

/** @throws FileError, FormatError */
export async function readStatistics(path: string): Promise<StoredStatistics> {
  let bytes: Uint8Array;
  try {
    const { size } = await stat(path);
    if (size > MOST * MOST * 8 * 1.1) throw wrong(path, `has ${size} bytes`, `at most ${MOST} features`);
    bytes = await readFile(path);
  } catch (error) {
    throw fileError('readStatistics', 'read', path, error);
  }
  return /\.npz$/i.test(path) ? fromNpz(path, bytes) : fromSafetensors(path, bytes);
}

const wrong = (path: string, what: string, expected: string): FormatError =>
  new FormatError('readStatistics', `${path} ${what}`, {
    expected,
    remedy: 'give statistics that this program or pytorch-fid wrote',
  });

function complete(path: string, mean: Float64Array, covariance: Float64Array, shape: readonly number[]): void {
  const n = mean.length;
  if (n < 1 || n > MOST || shape.length !== 2 || shape[0] !== n || shape[1] !== n || covariance.length !== n * n)
    throw wrong(path, `holds mu of ${n} and sigma of shape (${shape.join(',')})`, 'mu (D) and sigma (D, D)');
  for (const values of [mean, covariance])
    for (const value of values)
      if (!Number.isFinite(value)) throw wrong(path, 'holds numbers that are not finite', 'finite ones');
}

function fromSafetensors(path: string, bytes: Uint8Array): StoredStatistics {
  const { tensors, metadata } = readSafetensors(bytes);
  const [mu, sigma] = ['mu', 'sigma'].map((name) => {
    const entry = tensors.get(name);
    if (!entry || !/^F(32|64)$/.test(entry.dtype)) throw wrong(path, `has no ${name}`, 'mu and sigma, F64 or F32');
    return { shape: entry.shape, values: Float64Array.from(entry.data as ArrayLike<number>) };
  });
  if (mu.shape.length !== 1) throw wrong(path, `has mu of shape (${mu.shape.join(',')})`, '(D)');
  complete(path, mu.values, sigma.values, sigma.shape);
  const count = Number(metadata.get('count'));
  const counted = Number.isSafeInteger(count) && count >= 2;
  const network = metadata.get('network');
  return {
    statistics: { count: counted ? count : Infinity, mean: mu.values, covariance: sigma.values },
    counted,
    ...(network !== undefined && { network }),
  };
}

async function fromNpz(path: string, bytes: Uint8Array): Promise<StoredStatistics> {
  const source = byteSource(bytes);
  const records = await readZipDirectory(source);
  const read = async (name: string): Promise<{ shape: number[]; values: Float64Array }> => {
    const record = records.get(`${name}.npy`);
    if (!record) throw wrong(path, `has no ${name}`, 'mu and sigma');
    if (record.size > MOST * MOST * 8 + 1024)
      throw wrong(path, `has ${name} of ${record.size} bytes`, `at most ${MOST} features`);
    return numbersOfNpy(path, name, await readZipRecord(source, record));
  };
  const mu = await read('mu'),
    sigma = await read('sigma');
  if (mu.shape.length !== 1) throw wrong(path, `has mu of shape (${mu.shape.join(',')})`, '(D)');
  complete(path, mu.values, sigma.values, sigma.shape);
  return { statistics: { count: Infinity, mean: mu.values, covariance: sigma.values }, counted: false };
}

/** An array of NumPy's format, versions 1 to 3, of little-endian floats. A covariance may lie in either order. */
function numbersOfNpy(path: string, name: string, npy: Uint8Array): { shape: number[]; values: Float64Array } {
  const view = new DataView(npy.buffer, npy.byteOffset, npy.byteLength);
  const magic = npy.length > 12 && npy[0] === 0x93 && new TextDecoder('latin1').decode(npy.subarray(1, 6)) === 'NUMPY';
  const start = magic ? (npy[6] === 1 ? 10 : 12) : 0;
  const length = magic ? (npy[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true)) : 0;
  const header =
    magic && start + length <= npy.length ? new TextDecoder('latin1').decode(npy.subarray(start, start + length)) : '';
  const [, bits] = /'descr': *'<f([48])'/.exec(header) ?? [];
  const [, dimensions] = /'shape': *\(([\d, ]{1,40})\)/.exec(header) ?? [];
  const shape = (dimensions ?? '').split(',').flatMap((text) => (text.trim() === '' ? [] : [Number(text)]));
  const count = shape.reduce((a, b) => a * b, 1);
  const data = npy.slice(start + length);
  if (bits === undefined || dimensions === undefined || data.length !== count * Number(bits))
    throw wrong(path, `has ${name} in another form`, 'an array of little-endian floats');
  const stored = bits === '8' ? new Float64Array(data.buffer, 0, count) : new Float32Array(data.buffer, 0, count);
  return { shape, values: Float64Array.from(stored) };
}

/** @throws FileError */
export async function writeStatistics(
  path: string,
  { count, mean, covariance }: FeatureStatistics,
  network: string,
): Promise<void> {
  const n = mean.length;
  if (!/\.npz$/i.test(path)) {
    const entries = [
      ['mu', { dtype: 'F64' as const, shape: [n], data: mean }],
      ['sigma', { dtype: 'F64' as const, shape: [n, n], data: covariance }],
    ] as const;
    return writeFileAtomic(
      path,
      writeSafetensors(entries, [
        ['count', String(count)],
        ['network', network],
      ]),
    );
  }
  const zip = new yazl.ZipFile();
  const options = { compress: false, mtime: new Date(Date.UTC(2000, 0, 1)) };
  zip.addBuffer(npyOf(mean, `(${n},)`), 'mu.npy', options);
  zip.addBuffer(npyOf(covariance, `(${n}, ${n})`), 'sigma.npy', options);
  zip.end();
  await writeFileAtomic(path, zip.outputStream as AsyncIterable<Uint8Array>);
}

function npyOf(values: Float64Array, shape: string): Buffer {
  const text = `{'descr': '<f8', 'fortran_order': False, 'shape': ${shape}, }`;
  // The data begin at a multiple of 64.
  const padded = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`;
  const head = Buffer.alloc(10);
  head.write('\x93NUMPY\x01\x00', 'latin1');
  head.writeUInt16LE(padded.length, 8);
  return Buffer.concat([
    head,
    Buffer.from(padded, 'latin1'),
    new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  ]);
}
