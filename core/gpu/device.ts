// A device: the adapter's queue together with what lives on it, each in a file of its own: the pool of buffers, the
// stream of commands, the compiled kernels, their dispatch, readback, the count of handles. There is no global device;
// tensors carry theirs.
/// <reference lib="esnext.disposable" preserve="true" />

import { DeviceLostError, GpuError } from '../errors.ts';
import { plainLimits, type AdapterSummary, type Feature, type GPUSubgroupMatrixConfig, type Tier } from './adapter.ts';
import { BindGroups } from './bindGroups.ts';
import { Dispatcher, type Groups, type Operand } from './dispatcher.ts';
import { Faults } from './faults.ts';
import { Handles } from './handles.ts';
import type { Kernel, KernelEnv } from './kernel.ts';
import { KernelCache } from './kernelCache.ts';
import { BufferPool, outOfMemory } from './pool.ts';
import { Loss } from './loss.ts';
import { Readback } from './readback.ts';
import type { DispatchTimer } from './recorder.ts';
import type { Memory, Storage } from './storage.ts';
import { Stream } from './stream.ts';
import type { GPUAdapterInfo, GPUDevice, GPUSupportedLimits } from './webgpu.ts';

/** Memory of a device, in bytes and tensors. */
export interface MemoryReport {
  liveTensors: number;
  liveBytes: number;
  pooledBytes: number;
  peakBytes: number;
  /** Tensors that nobody disposed of: the garbage collector gave them back. */
  leakedTensors: number;
}

/**
 * A GPU device with its memory, its compiled kernels and its stream of commands. `openDevice` makes one; tensors
 * carry theirs. `destroy()` ends it.
 */
export class Device implements KernelEnv, Memory {
  /** The WebGPU device. */
  readonly gpu: GPUDevice;
  /** What kind of adapter it runs on. */
  readonly adapter: AdapterSummary;
  /** Whether it was opened with Dawn's toggles. */
  readonly tier: Tier;
  /** Limits of WebGPU as this device has them: bytes, counts, invocations. */
  readonly limits: GPUSupportedLimits;
  /** Fewest lanes of a subgroup; 0 where there are no subgroups. */
  readonly subgroupMinSize: number;
  /** Most lanes of a subgroup; 0 where there are no subgroups. */
  readonly subgroupMaxSize: number;
  /** Shapes that the adapter's matrix unit takes, empty where it offers none. */
  readonly subgroupMatrixConfigs: readonly GPUSubgroupMatrixConfig[];
  /** Buffers to be used again. */
  readonly pool: BufferPool;
  /** Commands that are encoded and not yet submitted. */
  readonly stream: Stream;
  /** Compiled kernels. */
  readonly kernels: KernelCache;
  /** Bind groups to be used again. */
  readonly bindGroups: BindGroups;
  /** Which work failed. */
  readonly faults: Faults;
  /** Tensors on this device. */
  readonly handles = new Handles();
  /** Resolves when the device is lost, also by `destroy()`. */
  readonly lost: Promise<DeviceLostError>;
  /** Ends what waits for a device that is lost. */
  readonly loss: Loss;

  private readonly dispatcher: Dispatcher;
  private readonly readback: Readback;
  private readonly release: () => void;
  private failure: DeviceLostError | null = null;
  private destroyed = false;

  constructor(
    gpu: GPUDevice,
    adapter: AdapterSummary,
    options: { tier: Tier; immediates: boolean; info: GPUAdapterInfo; release: () => void },
  ) {
    this.gpu = gpu;
    this.adapter = adapter;
    this.tier = options.tier;
    this.release = options.release;
    this.limits = plainLimits(gpu.limits);
    this.subgroupMinSize = options.info.subgroupMinSize ?? 0;
    this.subgroupMaxSize = options.info.subgroupMaxSize ?? 0;
    this.subgroupMatrixConfigs =
      (options.info as { subgroupMatrixConfigs?: GPUSubgroupMatrixConfig[] }).subgroupMatrixConfigs ?? [];
    this.pool = new BufferPool(gpu, Math.min(this.limits.maxBufferSize, this.limits.maxStorageBufferBindingSize));
    this.faults = new Faults(gpu, async () => {
      await Promise.all([this.kernels.settled(), this.pool.settled()]);
    });
    this.stream = new Stream(gpu, this.faults);
    this.bindGroups = new BindGroups(gpu);
    this.kernels = new KernelCache(gpu, this, options.immediates);
    this.dispatcher = new Dispatcher(this);
    gpu.addEventListener('uncapturederror', (event) => {
      event.preventDefault();
      const { message } = event.error;
      this.faults.stray(
        event.error.constructor.name === 'GPUOutOfMemoryError' ? outOfMemory(message) : new GpuError('device', message),
      );
    });
    this.lost = gpu.lost.then(({ reason, message }) => {
      return (this.failure ??= new DeviceLostError(
        'device',
        `The GPU device was lost (${reason}): ${message.replace(/\.$/, '')}`,
        { remedy: 'open a new device and load the last checkpoint' },
      ));
    });
    this.loss = new Loss(this.lost);
    this.readback = new Readback(gpu, this.stream, this.faults, this.loss);
  }

  /** Whether the device has an optional feature. */
  has(feature: Feature): boolean {
    if (feature === 'subgroup-matrix') return this.gpu.features.has('chromium-experimental-subgroup-matrix');
    return this.gpu.features.has(feature);
  }

  /**
   * Runs a kernel: one operand per binding in order, one number per parameter in order.
   *
   * @throws ValueError for operands that it cannot take, CompileError where the kernel was refused, the error of an
   *   operand whose values failed, and DeviceLostError
   */
  run<V extends object>(
    kernel: Kernel<V>,
    variant: V,
    operands: readonly Operand[],
    params: readonly number[],
    groups: Groups,
  ): void {
    this.check();
    this.dispatcher.run(kernel, variant, operands, params, groups);
  }

  /**
   * Throws where the device can no longer be used.
   *
   * @throws DeviceLostError once the device is lost or destroyed: nothing on it can be used any more
   */
  check(): void {
    if (this.failure) throw this.failure;
  }

  /**
   * Waits until everything submitted so far is done.
   *
   * @throws the first error since the last call that nobody was told yet
   */
  async synchronize(): Promise<void> {
    this.check();
    this.stream.flush();
    const { submits } = this.stream;
    await this.loss.orLost(this.gpu.queue.onSubmittedWorkDone());
    this.stream.waited(submits);
    await this.settled(true);
  }

  /**
   * Reads bytes back.
   *
   * @throws why there are no such values: what should have written them failed, or the device was lost
   */
  readBytes(storage: Storage, offset: number, bytes: number): Promise<ArrayBuffer> {
    this.check();
    return this.readback.read(storage, offset, bytes, () => this.settled(false));
  }

  /** Waits until it is known what failed of all that was submitted, and tells errors that belong to no work. */
  private async settled(all: boolean): Promise<void> {
    await Promise.all([this.kernels.settled(), this.faults.settled()]);
    this.check();
    this.faults.tell(all);
  }

  /** Bytes and tensors as they are now, and the most there were. */
  memory(): MemoryReport {
    const { liveBytes, pooledBytes, peakBytes } = this.pool;
    return { liveTensors: this.liveTensors, liveBytes, pooledBytes, peakBytes, leakedTensors: this.leakedTensors };
  }

  /** Tensors that are not disposed of. */
  get liveTensors(): number {
    return this.handles.live;
  }

  /** Tensors that nobody disposed of: the garbage collector gave them back. */
  get leakedTensors(): number {
    return this.handles.leaked;
  }

  /** Remember where each tensor is made, for `leakReport()`. Slows the host down. */
  get traceTensors(): boolean {
    return this.handles.trace;
  }

  set traceTensors(trace: boolean) {
    this.handles.trace = trace;
  }

  /**
   * Which tensors nobody disposed of, so that the garbage collector gave their memory back. It runs when it likes:
   * memory is taken for longer than it is needed, and the report may be late.
   */
  leakReport(): string {
    return this.handles.report();
  }

  /** Gives free buffers back to the system. */
  trim(): void {
    this.stream.flush();
    this.bindGroups.clear();
    this.readback.trim();
    this.pool.trim();
  }

  /** Measures every dispatch until it is set to null again. */
  get profiler(): DispatchTimer | null {
    return this.stream.profiler;
  }

  set profiler(profiler: DispatchTimer | null) {
    this.stream.flush();
    this.stream.profiler = profiler;
  }

  /** Frees everything on the device and lets the process exit. */
  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.failure = new DeviceLostError('device', 'The device was destroyed');
    this.stream.abandon();
    this.handles.abandon();
    this.bindGroups.clear();
    this.gpu.destroy();
    this.release();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}
