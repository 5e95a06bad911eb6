// What a data set is, and the order in which training sees it. The order is a function of (seed, epoch) alone, and the
// place in it a pair of integers: a run that stores the cursor with its checkpoint goes on with exactly the batches it
// would have seen.
import { ValueError } from '../../core/errors.ts';
import { hash32, HashStream } from './hash.ts';
import { normalizeToChw, type Pixels } from './image.ts';

/** One square image of 8 or 16 bits, channels last, and its class (0 where the data set has none). */
export interface DatasetItem<P extends Pixels = Pixels> {
  readonly pixels: P;
  readonly label: number;
  /** Of a set of latents, in place of pixels: (channels, size, size). */
  readonly values?: Float32Array;
  /** Those of the mirrored picture, where there are some. */
  readonly mirrored?: () => Promise<Float32Array>;
}

/** Square images of one size, addressed by index. The same index must give the same item each time. */
export interface Dataset {
  readonly length: number;
  /** Image side in pixels. */
  readonly size: number;
  readonly channels: number;
  /** 0 when the images carry no labels. */
  readonly numClasses: number;
  readonly classNames: readonly string[];
  item(index: number): DatasetItem | Promise<DatasetItem>;
}

/** A place in the endless sequence of epochs: `index` items of epoch `epoch` have been handed out. */
export interface DataCursor {
  readonly epoch: number;
  readonly index: number;
}

/** Some images as a step takes them. */
export interface Batch {
  /** (B, C, H, W) in [-1, 1]. */
  readonly images: Float32Array;
  /** (B,) */
  readonly labels: Int32Array;
  /** [B, C, H, W] */
  readonly shape: readonly [number, number, number, number];
  /** The epoch of its items. */
  readonly epoch: number;
  /** Where the next batch starts: what a checkpoint taken after this batch stores. */
  readonly next: DataCursor;
}

// Separate the uses of one seed, so that the flips are independent of the order.
const orderKey = 1;
const flipKey = 2;

/** The order of `n` items in an epoch: a Fisher-Yates shuffle driven by (seed, epoch). */
export function epochOrder(n: number, seed: number, epoch: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  const random = new HashStream(seed, orderKey, epoch);
  for (let i = n - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  return order;
}

/** Whether item `index` is mirrored in `epoch`: half of them, chosen by (seed, epoch, index). */
export function epochFlip(index: number, seed: number, epoch: number): boolean {
  return hash32(seed, flipKey, epoch, index) >>> 31 === 1;
}

/**
 * Turns pictures, (B, C, H, W) in [-1, 1], into what a step takes in their place, such as latents. What it draws may
 * depend on their place alone: the epoch, and how many of its items come before them.
 */
export type BatchEncoder = (
  pictures: Pick<Batch, 'images' | 'shape'>,
  place: DataCursor,
) => Promise<Pick<Batch, 'images' | 'shape'>>;

/** Options of `DataLoader`. */
export interface DataLoaderOptions {
  batchSize: number;
  /** Determines order and flips. Default 0. */
  seed?: number;
  /** A new order each epoch. Default true. */
  shuffle?: boolean;
  /** Mirror half of the images, another half each epoch. Default false. */
  flip?: boolean;
  /** Leave out the items at an epoch's end that do not fill a batch. Default true. */
  dropLast?: boolean;
  /** End after this many epochs, counted from epoch 0. Default Infinity. */
  epochs?: number;
  /** Where to start. Default the beginning. */
  cursor?: DataCursor;
  /** Ends loading: the pending and every later `next` reject with its reason. */
  signal?: AbortSignal;
  /** Load an equal part of every batch alone: part `index` of so many. Cursors are those of whole batches. */
  part?: { readonly index: number; readonly of: number };
  /** What becomes of each batch before it is handed out. Default nothing. */
  encode?: BatchEncoder;
}

const natural = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;

interface Prefetch {
  readonly batch: Promise<Batch>;
  start(): void;
}

/**
 * Batches of a data set in seeded order, as an async iterator. While the caller works on one batch, the next is
 * prepared.
 *
 * Each batch owns its arrays. `cursor` is the place after the last batch handed out, whatever has been prepared beyond
 * it. An item that cannot be had rejects `next` with the data set's error; the cursor then stays where it was.
 */
export class DataLoader implements AsyncIterableIterator<Batch> {
  /** Where its items come from. */
  readonly dataset: Dataset;
  /** Batches in an epoch. */
  readonly batchesPerEpoch: number;
  private readonly batchSize: number;
  private readonly seed: number;
  private readonly shuffle: boolean;
  private readonly flip: boolean;
  private readonly usable: number;
  private readonly epochs: number;
  private readonly signal: AbortSignal | undefined;
  private readonly part: { readonly index: number; readonly of: number };
  private readonly encode: BatchEncoder | undefined;
  private position: DataCursor;
  private order: { epoch: number; items: Uint32Array } | undefined;
  private ahead: Prefetch | undefined;

  /**
   * @throws ValueError when the batch is larger than the data set and `dropLast` would leave nothing, or a number is
   *   out of range
   */
  constructor(dataset: Dataset, options: DataLoaderOptions) {
    const {
      batchSize,
      seed = 0,
      shuffle = true,
      flip = false,
      dropLast = true,
      epochs = Infinity,
      cursor,
      signal,
      part = { index: 0, of: 1 },
      encode,
    } = options;
    if (!natural(batchSize) || batchSize < 1) {
      throw new ValueError('DataLoader', `is ${batchSize}`, {
        option: 'batchSize',
        expected: 'a positive integer',
        remedy: 'give the number of images in a batch',
      });
    }
    if (!natural(dataset.length) || dataset.length < 1) {
      throw new ValueError('DataLoader', `the data set has ${dataset.length} items`, {
        expected: 'at least one',
        remedy: 'give another data set',
      });
    }
    if (dropLast && batchSize > dataset.length) {
      throw new ValueError('DataLoader', `is ${batchSize}`, {
        option: 'batchSize',
        expected: `at most the ${dataset.length} items of the data set`,
        remedy: 'lower the batch size or add images',
      });
    }
    if (!Number.isSafeInteger(seed))
      throw new ValueError('DataLoader', `is ${seed}`, {
        option: 'seed',
        expected: 'an integer',
        remedy: 'give any whole number',
      });
    if (!(epochs === Infinity || natural(epochs))) {
      throw new ValueError('DataLoader', `is ${epochs}`, {
        option: 'epochs',
        expected: 'a natural number or Infinity',
        remedy: 'leave it out for an endless sequence',
      });
    }
    this.dataset = dataset;
    this.batchesPerEpoch = dropLast ? Math.floor(dataset.length / batchSize) : Math.ceil(dataset.length / batchSize);
    this.batchSize = batchSize;
    this.seed = seed;
    this.shuffle = shuffle;
    this.flip = flip;
    this.usable = dropLast ? this.batchesPerEpoch * batchSize : dataset.length;
    this.epochs = epochs;
    this.signal = signal;
    if (batchSize % part.of !== 0 || (!dropLast && dataset.length % part.of !== 0)) {
      throw new ValueError('DataLoader', `Batches of ${batchSize} can't be divided into ${part.of} equal parts`, {
        remedy: 'choose a batch size that can, and drop the last',
      });
    }
    this.part = part;
    this.encode = encode;
    this.position = cursor ? this.checkCursor(cursor) : { epoch: 0, index: 0 };
  }

  /** The place after the last batch handed out. */
  get cursor(): DataCursor {
    return this.position;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next batch; done after the last epoch. */
  async next(): Promise<IteratorResult<Batch, undefined>> {
    this.signal?.throwIfAborted();
    if (this.position.epoch >= this.epochs) return { done: true, value: undefined };
    const current = this.ahead ?? this.prefetch(this.position);
    this.ahead = undefined;
    current.start();
    const batch = await current.batch;
    this.signal?.throwIfAborted();
    this.position = batch.next;
    if (batch.next.epoch < this.epochs) this.ahead = this.prefetch(batch.next);
    return { done: false, value: batch };
  }

  /** Ends the loader. */
  return(): Promise<IteratorResult<Batch, undefined>> {
    this.ahead = undefined;
    return Promise.resolve({ done: true, value: undefined });
  }

  /** Loads the batch at `cursor` when the host is next idle, or at once when `start` is called. */
  private prefetch(cursor: DataCursor): Prefetch {
    let start = (): void => {};
    const idle = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, 0);
      start = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    const batch = idle.then(() => this.load(cursor));
    // A failure is reported by the `next` that asks for the batch, which may come late or never.
    batch.catch(() => {});
    return { batch, start };
  }

  private async load({ epoch, index }: DataCursor): Promise<Batch> {
    const { size, channels } = this.dataset;
    const end = Math.min(index + this.batchSize, this.usable);
    const count = (end - index) / this.part.of;
    const first = index + this.part.index * count;
    const indices = Array.from({ length: count }, (_, i) => this.itemAt(epoch, first + i));
    this.signal?.throwIfAborted();
    // Async, because a throw here would leave the items begun before with nobody to see them fail.
    const items = await Promise.all(indices.map(async (i) => this.dataset.item(i)));
    const images = new Float32Array(count * channels * size * size);
    const labels = new Int32Array(count);
    for (const [i, item] of items.entries()) {
      const { pixels, label, values } = item;
      labels[i] = label;
      const flip = this.flip && epochFlip(indices[i], this.seed, epoch);
      if (values) {
        images.set(flip && item.mirrored ? await item.mirrored() : values, i * values.length);
        continue;
      }
      normalizeToChw(
        { data: pixels, width: size, height: size, channels },
        { out: images, offset: i * pixels.length, flip },
      );
    }
    const next = end === this.usable ? { epoch: epoch + 1, index: 0 } : { epoch, index: end };
    const pictures = { images, shape: [count, channels, size, size] } as const;
    return { ...((await this.encode?.(pictures, { epoch, index: first })) ?? pictures), labels, epoch, next };
  }

  private itemAt(epoch: number, place: number): number {
    if (!this.shuffle) return place;
    if (this.order?.epoch !== epoch) this.order = { epoch, items: epochOrder(this.dataset.length, this.seed, epoch) };
    return this.order.items[place];
  }

  private checkCursor({ epoch, index }: DataCursor): DataCursor {
    if (!natural(epoch) || !natural(index) || index >= this.usable || index % this.batchSize !== 0) {
      throw new ValueError('DataLoader', `is at item ${index} of epoch ${epoch}`, {
        option: 'cursor',
        expected: `a multiple of batchSize ${this.batchSize} below ${this.usable}`,
        remedy: 'resume with the data set and batch size of the checkpoint, or start again',
      });
    }
    return { epoch, index };
  }
}
