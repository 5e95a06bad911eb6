// The binary version of CIFAR-10 and CIFAR-100 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
// 2009): records of one or two label bytes and 3,072 bytes of pixels, channels first, without any header.
import { FormatError } from '../../core/errors.ts';
import { centerCropArr } from './centerCrop.ts';
import type { Dataset, DatasetItem } from './dataset.ts';

const side = 32;
const pixelBytes = 3 * side * side;

/** Class names of CIFAR-10, in label order. */
export const CIFAR10_CLASSES = [
  'airplane',
  'automobile',
  'bird',
  'cat',
  'deer',
  'dog',
  'frog',
  'horse',
  'ship',
  'truck',
] as const;

/** Which of the two data sets of 32 × 32 photographs. */
export type CifarKind = 'cifar10' | 'cifar100';

/** What the files hold, and what of it is wanted. */
export interface CifarOptions {
  kind: CifarKind;
  /** CIFAR-100 has 100 fine and 20 coarse classes. Default fine. */
  labels?: 'fine' | 'coarse';
  /** Names in label order, for instance from fine_label_names.txt. Default those of CIFAR-10, or numbers. */
  classNames?: readonly string[];
  /** Image side; other than 32, the images are resampled by `centerCropArr`. Default 32. */
  size?: number;
}

/** One file's bytes and the name to call it by in errors. */
export interface CifarFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * CIFAR-10 or CIFAR-100 from the bytes of its binary files, in the order given.
 * @throws FormatError when a file is empty or not a whole number of records, or a label is out of range; the file is
 *   named
 */
export function cifarDataset(
  files: readonly CifarFile[],
  { kind, labels = 'fine', classNames, size = side }: CifarOptions,
): Dataset {
  const labelBytes = kind === 'cifar10' ? 1 : 2;
  const record = labelBytes + pixelBytes;
  const labelAt = kind === 'cifar100' && labels === 'fine' ? 1 : 0;
  const numClasses = kind === 'cifar10' ? 10 : labels === 'fine' ? 100 : 20;
  if (files.length === 0)
    throw new FormatError('cifarDataset', 'no file given', {
      expected: `at least one ${kind} binary file`,
      remedy: 'name the folder that holds them',
    });
  for (const { name, bytes } of files) {
    if (bytes.length === 0 || bytes.length % record !== 0) {
      throw new FormatError('cifarDataset', `${name} has ${bytes.length} bytes`, {
        expected: `a multiple of ${record} (a ${kind} record)`,
        remedy: 'download it again: it may be incomplete, or belong to another version',
      });
    }
    for (let at = labelAt; at < bytes.length; at += record) {
      if (bytes[at] >= numClasses) {
        throw new FormatError('cifarDataset', `${name} has label ${bytes[at]} in record ${Math.floor(at / record)}`, {
          expected: `less than ${numClasses}`,
          remedy: `download it again: it is damaged or not ${kind}`,
        });
      }
    }
  }
  const names =
    classNames ?? (kind === 'cifar10' ? CIFAR10_CLASSES : Array.from({ length: numClasses }, (_, i) => String(i)));
  if (names.length !== numClasses) {
    throw new FormatError('cifarDataset', `${names.length} class names given`, {
      expected: `${numClasses}`,
      remedy: 'pass one name for each label',
    });
  }
  const counts = files.map(({ bytes }) => bytes.length / record);
  const length = counts.reduce((a, b) => a + b, 0);

  function item(index: number): DatasetItem {
    let file = 0;
    let at = index;
    while (file < files.length && at >= counts[file]) at -= counts[file++];
    if (!Number.isSafeInteger(at) || at < 0 || file === files.length) {
      throw new FormatError('cifarDataset', `index is ${index}`, {
        expected: `an integer from 0 to ${length - 1}`,
        remedy: 'count items from 0',
      });
    }
    const { bytes } = files[file];
    const start = at * record;
    const pixels = new Uint8Array(pixelBytes);
    for (let i = 0; i < side * side; i++) {
      for (let c = 0; c < 3; c++) pixels[i * 3 + c] = bytes[start + labelBytes + c * side * side + i];
    }
    const label = bytes[start + labelAt];
    if (size === side) return { pixels, label };
    return { pixels: centerCropArr({ data: pixels, width: side, height: side, channels: 3 }, size).data, label };
  }
  return { length, size, channels: 3, numClasses, classNames: names, item };
}
