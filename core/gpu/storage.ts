// The memory behind tensors. Views and saved values share one storage; its buffer goes back to the pool with the last
// of them.

import { EngineError } from '../errors.ts';
import type { Faultable } from './faults.ts';
import type { BufferPool, PooledBuffer } from './pool.ts';

/** Is told of memory that is taken and given back. */
export interface MemoryListener {
  allocated(storage: Storage): void;
  freed(storage: Storage): void;
}

/** Where a storage's buffer comes from and goes back to: a device. */
export interface Memory {
  readonly pool: BufferPool;
  readonly stream: { readonly recorder: MemoryListener | null };
}

/** Memory of a device, counted by reference: views of a tensor share one. */
export class Storage implements Faultable {
  /** Its size in bytes. */
  readonly bytes: number;
  /** Counts writes in place, so that autograd notices a saved value that was overwritten. */
  version = 0;
  private readonly memory: Memory;
  private held: PooledBuffer | null;
  private readonly origin: PooledBuffer;
  private fault: Error | null = null;
  private refs = 1;

  /**
   * Takes memory whose content is undefined.
   *
   * @param what names it in errors, for example `a f32 tensor of shape (2,3)`
   * @throws LimitError where the adapter allows no buffer of that size
   */
  constructor(memory: Memory, bytes: number, what: string) {
    this.memory = memory;
    this.bytes = bytes;
    this.held = this.origin = memory.pool.acquire(bytes, what);
    memory.stream.recorder?.allocated(this);
  }

  /** The buffer behind it. */
  get buffer(): PooledBuffer {
    if (!this.held)
      throw new EngineError('storage', 'used after its last tensor was disposed of', {
        remedy: 'this is a defect of the engine',
      });
    return this.held;
  }

  /**
   * Why it has no values: the work that should have written them failed, or there was no memory; null where it has
   * them.
   */
  get failure(): Error | null {
    return this.fault ?? this.origin.failure;
  }

  set failure(failure: Error | null) {
    this.fault = failure;
  }

  /** Why there is no memory behind it; null where there is. */
  get memoryFailure(): Error | null {
    return this.origin.failure;
  }

  /** Whether anybody holds it. */
  get alive(): boolean {
    return this.held !== null;
  }

  /** Whether several tensors, or the tape, hold it. */
  get shared(): boolean {
    return this.refs > 1;
  }

  /** Whether it lies on this device. */
  isOn(memory: Memory): boolean {
    return this.memory === memory;
  }

  /** Counts one more holder. */
  retain(): this {
    this.refs++;
    return this;
  }

  /** Counts one holder less; the last one gives the buffer back to the pool. */
  release(): void {
    if (--this.refs > 0 || !this.held) return;
    this.memory.stream.recorder?.freed(this);
    this.memory.pool.release(this.held);
    this.held = null;
  }
}
