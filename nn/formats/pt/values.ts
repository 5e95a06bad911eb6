// What a .pt file holds, as values of ours.

import type { PtTensor, PtDtype } from './tensor.ts';

/** An object that is only its name and fields: `argparse.Namespace`, `torch.device`. */
export class PtObject {
  /** Its class, for example `argparse.Namespace`. */
  readonly type: string;
  /** Its attributes. */
  readonly fields: Map<string, PtValue>;

  constructor(type: string, fields: Iterable<readonly [string, PtValue]> = []) {
    this.type = type;
    this.fields = new Map(fields);
  }
}

/** A type that a file names as a value, such as torch.float16. */
export class PtType {
  /** Its name, for example `torch.float16`. */
  readonly name: string;
  /** The type of elements that it names, if it does. */
  readonly dtype: PtDtype | undefined;

  constructor(name: string, dtype?: PtDtype) {
    this.name = name;
    this.dtype = dtype;
  }
}

/**
 * Dictionaries are Maps, lists, tuples and sizes arrays, sets Sets, bytes Uint8Arrays; integers beyond 2^53 are
 * bigints. A value may stand in several places, also within itself.
 */
export type PtValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PtValue[]
  | Set<PtValue>
  | Map<PtValue, PtValue>
  | PtTensor
  | PtObject
  | PtType;
