// Bytes from the GPU to the host, through buffers that are kept for the next time.

import { copyWork, type Faults, type Faultable } from './faults.ts';
import { MAP_MODE, USAGE } from './flags.ts';
import type { Loss } from './loss.ts';
import type { Storage } from './storage.ts';
import { touch, type Stream } from './stream.ts';
import type { GPUBuffer, GPUDevice } from './webgpu.ts';

/** Buffers that are kept, of one size, and the largest of them. */
const KEPT_BUFFERS = 4,
  KEPT_BYTES = 1 << 20;

export class Readback {
  private readonly gpu: GPUDevice;
  private readonly stream: Stream;
  private readonly faults: Faults;
  private readonly loss: Loss;
  /** Buffers to read back through, by their bytes. */
  private readonly free = new Map<number, GPUBuffer[]>();

  constructor(gpu: GPUDevice, stream: Stream, faults: Faults, loss: Loss) {
    this.gpu = gpu;
    this.stream = stream;
    this.faults = faults;
    this.loss = loss;
  }

  /**
   * Reads `bytes` bytes of a storage from `offset` on, after all that was encoded so far.
   *
   * @param settled is awaited when the copy is done: then it is known whether it, and what it reads, failed
   * @throws why the storage has no values
   */
  async read(storage: Storage, offset: number, bytes: number, settled: () => Promise<void>): Promise<ArrayBuffer> {
    const { stream, faults } = this;
    stream.recorder?.refuse('reads values back', 'return tensors and read them after the step');
    faults.check(storage);
    const outcome: Faultable = { failure: null };
    const size = Math.max(4, Math.ceil(bytes / 4) * 4);
    const free = this.free.get(size) ?? [];
    this.free.set(size, free);
    const staging = free.pop() ?? this.gpu.createBuffer({ size, usage: USAGE.MAP_READ | USAGE.COPY_DST });
    if (bytes > 0) {
      stream.copy(copyWork(storage, outcome), storage.buffer, offset, staging, 0, size);
      // A host write has to come after the copy.
      touch(stream, storage.buffer);
    }
    try {
      // What is read back in one turn of the host is submitted together.
      await null;
      stream.flush();
      const { submits } = stream;
      await this.loss.orLost(staging.mapAsync(MAP_MODE.READ));
      stream.waited(submits);
      await settled();
      faults.check(outcome);
      const result = staging.getMappedRange().slice(0, bytes);
      if (size <= KEPT_BYTES && free.length < KEPT_BUFFERS) {
        staging.unmap();
        free.push(staging);
      } else staging.destroy();
      return result;
    } catch (error) {
      staging.destroy();
      await settled();
      throw error;
    }
  }

  /** Gives the buffers that are kept back to the system. */
  trim(): void {
    for (const free of this.free.values()) for (const buffer of free.splice(0)) buffer.destroy();
    this.free.clear();
  }
}
