// The command stream: dispatches are encoded at once into one open compute pass and submitted together, at a readback
// or when enough has piled up. A recorder may listen; a timer may give every dispatch a pass of its own.

import { EngineError } from '../errors.ts';
import type { Faults, Work } from './faults.ts';
import type { Compiled } from './kernelCache.ts';
import type { PooledBuffer } from './pool.ts';
import type { DispatchTimer, Recorder } from './recorder.ts';
import type {
  GPUBindGroup,
  GPUBuffer,
  GPUCommandEncoder,
  GPUComputePassEncoder,
  GPUComputePipeline,
  GPUDevice,
} from './webgpu.ts';

/**
 * Commands after which an open batch is submitted, at most; and those of the first batch after a wait, so that the
 * adapter begins early.
 */
const BATCH = 256,
  FIRST_BATCH = 16;

export class Stream {
  recorder: Recorder | null = null;
  profiler: DispatchTimer | null = null;
  /** Number of the open batch. A buffer whose serial equals it has commands that are not submitted yet. */
  serial = 1;
  /** Dispatches encoded so far. */
  dispatches = 0;
  submits = 0;

  private readonly gpu: GPUDevice;
  private readonly faults: Faults;
  private encoder: GPUCommandEncoder | null = null;
  private pass: GPUComputePassEncoder | null = null;
  private pending = 0;
  private batch = FIRST_BATCH;
  private pipeline: GPUComputePipeline | null = null;

  constructor(gpu: GPUDevice, faults: Faults) {
    this.gpu = gpu;
    this.faults = faults;
  }

  /**
   * Encodes one dispatch. `immediates` are the kernel's parameters where the adapter takes them in the command itself.
   * A kernel of which it is not known yet whether it compiles gets a batch of its own: one that doesn't takes its batch
   * with it.
   */
  dispatch(
    work: Work,
    kernel: Compiled,
    group: GPUBindGroup,
    immediates: ArrayBuffer | null,
    x: number,
    y: number,
    z: number,
  ): void {
    const { pipeline, verdict } = kernel;
    if (!pipeline)
      throw (
        verdict.failure ??
        new EngineError(kernel.name, 'The kernel is still being compiled', {
          remedy: 'await the capture before it is replayed',
        })
      );
    if (!verdict.known) this.flush();
    this.faults.note(work);
    let pass: GPUComputePassEncoder;
    if (this.profiler) {
      this.endPass();
      pass = this.profiler.beginPass(this.open(), kernel.name);
    } else {
      pass = this.pass ??= this.open().beginComputePass();
    }
    if (this.pipeline !== pipeline || this.profiler) {
      pass.setPipeline(pipeline);
      this.pipeline = pipeline;
    }
    pass.setBindGroup(0, group);
    if (immediates) pass.setImmediates(0, immediates);
    pass.dispatchWorkgroups(x, y, z);
    this.dispatches++;
    if (this.profiler) {
      pass.end();
      this.pipeline = null;
      this.profiler.hostEnds();
    }
    if (verdict.known) this.added();
    else this.flush();
  }

  copy(
    work: Work,
    from: PooledBuffer | GPUBuffer,
    fromOffset: number,
    to: PooledBuffer | GPUBuffer,
    toOffset: number,
    bytes: number,
  ): void {
    this.endPass();
    this.faults.note(work);
    this.open().copyBufferToBuffer(
      'gpu' in from ? from.gpu : from,
      fromOffset,
      'gpu' in to ? to.gpu : to,
      toOffset,
      bytes,
    );
    this.added();
  }

  clear(buffer: PooledBuffer): void {
    this.recorder?.refuse('clears a buffer', 'fill it by a kernel');
    this.endPass();
    this.open().clearBuffer(buffer.gpu);
    this.added();
  }

  /** Writes host data into a buffer, in order with the commands before it. `data.byteLength` is a multiple of 4. */
  write(buffer: PooledBuffer, offset: number, data: ArrayBufferView<ArrayBuffer>): void {
    // queue.writeBuffer would overtake commands that are encoded and not submitted.
    if (buffer.serial === this.serial) this.flush();
    this.gpu.queue.writeBuffer(buffer.gpu, offset, data);
  }

  /** Submits what is open. */
  flush(): void {
    if (!this.encoder) return;
    this.endPass();
    this.profiler?.resolve(this.encoder);
    const { encoder } = this;
    this.encoder = null;
    this.pending = 0;
    this.serial++;
    this.submits++;
    this.faults.submit(encoder);
  }

  /**
   * Told after a wait for the first `submits` batches: if there were no more since, the adapter has nothing to do until
   * the next one.
   */
  waited(submits: number): void {
    if (this.submits === submits) this.batch = FIRST_BATCH;
  }

  /** Forgets what is open; for a device that is gone. */
  abandon(): void {
    this.encoder = null;
    this.pass = null;
    this.pipeline = null;
    this.faults.abandon();
  }

  private open(): GPUCommandEncoder {
    return (this.encoder ??= this.gpu.createCommandEncoder());
  }

  private endPass(): void {
    this.pass?.end();
    this.pass = null;
    this.pipeline = null;
  }

  private added(): void {
    if (++this.pending < this.batch) return;
    this.batch = Math.min(BATCH, 2 * this.batch);
    this.flush();
  }
}

/** Marks a pool's buffer as used by the open batch. */
export function touch(stream: Stream, buffer: PooledBuffer): void {
  buffer.serial = stream.serial;
}
