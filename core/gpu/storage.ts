// The memory behind tensors. Views and saved values share one storage; its buffer goes back to the pool with the last of them.

import { EngineError } from '../errors.ts';
import type { Device } from './device.ts';
import type { PooledBuffer } from './pool.ts';

export class Storage {
  readonly device: Device;
  readonly bytes: number;
  /** Counts writes in place, so that autograd notices a saved value that was overwritten. */
  version = 0;
  private held: PooledBuffer | null;
  private refs = 1;

  constructor(device: Device, bytes: number, what: string) {
    this.device = device;
    this.bytes = bytes;
    this.held = device.pool.acquire(bytes, what);
    device.stream.recorder?.allocated(this);
  }

  get buffer(): PooledBuffer {
    if (!this.held)
      throw new EngineError('storage', 'used after its last tensor was disposed of', {
        remedy: 'this is a defect of the engine',
      });
    return this.held;
  }

  get alive(): boolean {
    return this.held !== null;
  }

  /** Whether several tensors, or the tape, hold it. */
  get shared(): boolean {
    return this.refs > 1;
  }

  retain(): this {
    this.refs++;
    return this;
  }

  release(): void {
    if (--this.refs > 0 || !this.held) return;
    this.device.stream.recorder?.freed(this);
    this.device.pool.release(this.held);
    this.held = null;
  }
}
