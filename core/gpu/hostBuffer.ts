// Memory that the GPU copies to or from and the host sees without a copy of its own: for bytes that go to other
// processes. What `map()` gives to write may be slow to read (write-combined memory): only ever write to it.

import { LimitError } from '../errors.ts';
import type { Device } from './device.ts';
import type { Operand } from './dispatcher.ts';
import { copyWork, type Faultable } from './faults.ts';
import { touch } from './stream.ts';
import type { GPUBuffer } from './webgpu.ts';

const MAP_READ_COPY_DST = 0x1 | 0x8,
  MAP_WRITE_COPY_SRC = 0x2 | 0x4;

/** Belongs in turn to the GPU (copies) and to the host (between `map` and `unmap`). */
export class HostBuffer implements Faultable {
  /** Its size in bytes. */
  readonly bytes: number;
  /** What the host does with it. */
  readonly direction: 'read' | 'write';
  /** Why what was copied here has no values; null where it has. */
  failure: Error | null = null;
  private readonly device: Device;
  private readonly gpu: GPUBuffer;

  /**
   * @param bytes a multiple of 4
   * @param direction what the host does with it
   * @throws LimitError
   */
  constructor(device: Device, bytes: number, direction: 'read' | 'write') {
    if (bytes % 4 !== 0 || bytes > device.limits.maxBufferSize)
      throw new LimitError('HostBuffer', `is ${bytes}`, {
        option: 'bytes',
        expected: `a multiple of 4 up to ${device.limits.maxBufferSize}, the adapter's largest buffer`,
        remedy: 'use several',
      });
    this.device = device;
    this.bytes = bytes;
    this.direction = direction;
    this.gpu = device.gpu.createBuffer({
      size: bytes,
      usage: direction === 'read' ? MAP_READ_COPY_DST : MAP_WRITE_COPY_SRC,
    });
  }

  /** Encodes a copy of `bytes` from the operand to byte `at` of this buffer, for a host that reads. */
  copyFrom({ storage, byteOffset }: Operand, bytes: number, at = 0): void {
    this.failure = null;
    this.device.stream.copy(copyWork(storage, this), storage.buffer, byteOffset, this.gpu, at, bytes);
    touch(this.device.stream, storage.buffer);
  }

  /** Encodes a copy of `bytes` from byte `at` of this buffer to the operand, after the host has written. */
  copyTo({ storage, byteOffset }: Operand, bytes: number, at = 0): void {
    this.device.stream.copy(copyWork(this, storage), this.gpu, at, storage.buffer, byteOffset, bytes);
    touch(this.device.stream, storage.buffer);
    storage.version++;
  }

  /**
   * Submits what is encoded, waits until the GPU is done with this buffer, and gives its first `bytes` to the host
   * until `unmap()`.
   *
   * @throws why what was copied has no values
   */
  async map(bytes = this.bytes): Promise<ArrayBuffer> {
    const { device, gpu } = this;
    device.check();
    // Copies to and from this buffer must be submitted before the host asks for it.
    device.stream.flush();
    try {
      await device.loss.orLost(gpu.mapAsync(this.direction === 'read' ? 1 : 2, 0, bytes));
      await device.faults.settled();
      device.check();
      if (this.failure) gpu.unmap();
      device.faults.check(this);
      return gpu.getMappedRange(0, bytes);
    } catch (error) {
      device.check();
      throw error;
    }
  }

  /** Gives the memory back to the GPU. What `map()` returned is detached. */
  unmap(): void {
    this.gpu.unmap();
  }

  /** Frees the memory. */
  destroy(): void {
    this.gpu.destroy();
  }
}
