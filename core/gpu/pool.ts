// GPU buffers are reused, not made anew: creating one costs more than most dispatches. Sizes are rounded up to classes
// an eighth of an octave apart, so that at most 12.5 % is wasted and a freed buffer fits the next tensor of about its
// size.

import { GpuError, LimitError } from '../errors.ts';
import { USAGE } from './flags.ts';
import type { GPUBuffer, GPUDevice } from './webgpu.ts';

/** A buffer of the pool. `serial` is the batch of commands that used it last. */
export interface PooledBuffer {
  readonly gpu: GPUBuffer;
  readonly bytes: number;
  readonly id: number;
  serial: number;
  /** Whether it is known that there is memory behind it, or that there is none. */
  checked: boolean;
  /** Why there is no memory behind it. */
  failure: Error | null;
}

/** Bytes that a tensor of `bytes` occupies in the pool. */
export function sizeClass(bytes: number): number {
  const least = Math.max(256, bytes);
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(least)) - 3));
  return Math.ceil(least / step) * step;
}

/** The error of an allocation that the adapter has no memory for. */
export function outOfMemory(message: string): GpuError {
  return new GpuError('device', `The GPU is out of memory: ${message}`, {
    outOfMemory: true,
    remedy: 'use a smaller batch, dispose of what is not needed, or trim()',
  });
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
  private readonly checks = new Set<Promise<void>>();
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

  /** Resolves when it is known of every buffer made so far whether there is memory behind it. */
  async settled(): Promise<void> {
    await Promise.all(this.checks);
  }

  release(buffer: PooledBuffer): void {
    this.liveBytes -= buffer.bytes;
    if (buffer.failure) return;
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
    this.gpu.pushErrorScope('out-of-memory');
    const gpu = this.gpu.createBuffer({ size, usage: USAGE.STORAGE | USAGE.COPY_SRC | USAGE.COPY_DST });
    const buffer: PooledBuffer = { gpu, bytes: size, id: nextId++, serial: 0, checked: false, failure: null };
    const check: Promise<void> = this.gpu
      .popErrorScope()
      .catch(() => null) // the device was lost
      .then((error) => {
        buffer.checked = true;
        if (error) buffer.failure = outOfMemory(error.message);
        this.checks.delete(check);
      });
    this.checks.add(check);
    return buffer;
  }
}
