// GPU buffers are reused, not made anew: creating one costs more than most dispatches. Sizes are rounded up to classes an
// eighth of an octave apart, so that at most 12.5 % is wasted and a freed buffer fits the next tensor of about its size.

import { LimitError } from '../errors.ts';
import { USAGE } from './flags.ts';

/** A buffer of the pool. `serial` is the batch of commands that used it last. */
export interface PooledBuffer {
  readonly gpu: GPUBuffer;
  readonly bytes: number;
  readonly id: number;
  serial: number;
}

/** Bytes that a tensor of `bytes` occupies in the pool. */
export function sizeClass(bytes: number): number {
  const least = Math.max(256, bytes);
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(least)) - 3));
  return Math.ceil(least / step) * step;
}

let nextId = 1;

export class BufferPool {
  /** Bytes handed out and not given back. */
  liveBytes = 0;
  /** Bytes lying free. */
  pooledBytes = 0;
  /** The most that was ever handed out at a time. */
  peakBytes = 0;
  /** Buffers created so far. */
  created = 0;

  private readonly gpu: GPUDevice;
  private readonly limit: number;
  private readonly free = new Map<number, PooledBuffer[]>();

  /** @param limit bytes that a buffer may have */
  constructor(gpu: GPUDevice, limit: number) {
    this.gpu = gpu;
    this.limit = limit;
  }

  /** @throws LimitError where the adapter allows no buffer of that size. */
  acquire(bytes: number, what: string): PooledBuffer {
    const { limit } = this;
    if (bytes > limit) {
      throw new LimitError('allocate', `${what} takes ${bytes} bytes`, {
        expected: `at most ${limit}, the adapter's largest storage binding`,
        remedy: 'use a smaller batch, or split the tensor',
      });
    }
    const size = Math.min(sizeClass(bytes), limit - (limit % 4));
    const list = this.free.get(size);
    let buffer = list?.pop();
    if (buffer) {
      this.pooledBytes -= size;
    } else {
      buffer = this.create(size);
    }
    this.liveBytes += size;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return buffer;
  }

  release(buffer: PooledBuffer): void {
    this.liveBytes -= buffer.bytes;
    this.pooledBytes += buffer.bytes;
    const list = this.free.get(buffer.bytes);
    if (list) list.push(buffer);
    else this.free.set(buffer.bytes, [buffer]);
  }

  /** Destroys what lies free. Call it with no commands open. */
  trim(): void {
    for (const list of this.free.values()) for (const buffer of list) buffer.gpu.destroy();
    this.free.clear();
    this.pooledBytes = 0;
  }

  private create(size: number): PooledBuffer {
    this.created++;
    const gpu = this.gpu.createBuffer({ size, usage: USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST });
    return { gpu, bytes: size, id: nextId++, serial: 0 };
  }
}
