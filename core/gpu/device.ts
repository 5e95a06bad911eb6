// A device: the adapter's queue together with the pool, the stream and the compiled kernels that live on it. There is no
// global device; tensors carry theirs.

import { DeviceLostError, EngineError, GpuError, LimitError } from '../errors.ts';
import type { DType } from '../tensor/dtype.ts';
import { KernelCache, coarsenedGrid, type Compiled, type Kernel, type KernelEnv } from './kernel.ts';
import { BufferPool } from './pool.ts';
import type { Profiler } from '../profile/profiler.ts';
import { show, type Shape } from '../tensor/shape.ts';
import { Stream, touch, type Bound } from './stream.ts';
import { Tuning } from '../tuning/tuning.ts';

export type Tier = 'stock' | 'fast';

/** What kind of adapter a device runs on. */
export interface AdapterSummary {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  /** Whether it computes on the CPU. */
  readonly software: boolean;
  readonly backend: 'node' | 'browser' | 'null';
}

/** Memory of a device, in bytes and tensors. */
export interface MemoryReport {
  liveTensors: number;
  liveBytes: number;
  pooledBytes: number;
  peakBytes: number;
  /** Tensors that the garbage collector found undisposed. */
  leakedTensors: number;
}

/** A tensor or part of one, given to a kernel. */
export interface Operand {
  readonly storage: Bound['storage'];
  /** First byte. Must be a multiple of the adapter's offset alignment. */
  readonly byteOffset: number;
}

export class Device implements KernelEnv {
  readonly gpu: GPUDevice;
  readonly adapter: AdapterSummary;
  readonly tier: Tier;
  readonly limits: GPUSupportedLimits;
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  /** Shapes that the adapter's matrix unit takes, empty where it offers none. */
  readonly subgroupMatrixConfigs: readonly GPUSubgroupMatrixConfig[];
  readonly pool: BufferPool;
  readonly stream: Stream;
  readonly kernels: KernelCache;
  /** Which configurations of kernels were measured to be the fastest here. */
  readonly tuning: Tuning;
  /** Resolves when the device is lost, also by `destroy()`. */
  readonly lost: Promise<DeviceLostError>;
  liveTensors = 0;
  leakedTensors = 0;

  private readonly release: () => void;
  private failure: Error | null = null;
  private destroyed = false;
  private readonly groups = new Map<string, GPUBindGroup>();
  private readonly uniforms = new Map<string, GPUBuffer>();
  /** Buffers to read back through, by their bytes. */
  private readonly staging = new Map<number, GPUBuffer[]>();
  /** Room for a kernel's parameters, by their bytes. */
  private readonly words = new Map<number, { u32: Uint32Array<ArrayBuffer>; i32: Int32Array; f32: Float32Array }>();
  /** Remember where each tensor is made, for `leakReport()`. Slows the host down. */
  traceTensors = false;
  private readonly leaks: FinalizationRegistry<Birth>;
  /** Tensors that were collected undisposed, by what they were. */
  private readonly leaked = new Map<string, number>();

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
    this.stream = new Stream(gpu);
    this.kernels = new KernelCache(gpu, this, options.immediates, (error) => {
      this.failure ??= error;
    });
    this.tuning = new Tuning(this);
    this.leaks = new FinalizationRegistry(({ dtype, shape, stack }) => {
      this.leakedTensors++;
      const text = `${dtype} ${show(shape)}${stack === undefined ? '' : `, made at ${madeAt(stack)}`}`;
      this.leaked.set(text, (this.leaked.get(text) ?? 0) + 1);
    });
    gpu.addEventListener('uncapturederror', (event) => {
      event.preventDefault();
      const outOfMemory = event.error.constructor.name === 'GPUOutOfMemoryError';
      const error = new GpuError('device', `${outOfMemory ? 'The GPU is out of memory: ' : ''}${event.error.message}`, {
        outOfMemory,
        remedy: outOfMemory ? 'use a smaller batch, dispose of what is not needed, or trim()' : undefined,
      });
      // What a refused kernel breaks says less than why it was refused, which is known when its check is done.
      void this.kernels.settled().then(() => {
        this.failure ??= error;
      });
    });
    this.lost = gpu.lost.then(({ reason, message }) => {
      if (this.failure instanceof DeviceLostError) return this.failure;
      return (this.failure = new DeviceLostError(
        'device',
        `The GPU device was lost (${reason}): ${message.replace(/\.$/, '')}`,
        { remedy: 'open a new device and load the last checkpoint' },
      ));
    });
  }

  has(feature: 'shader-f16' | 'subgroups' | 'timestamp-query' | 'subgroup-matrix'): boolean {
    if (feature === 'subgroup-matrix') return this.gpu.features.has('chromium-experimental-subgroup-matrix');
    return this.gpu.features.has(feature);
  }

  /**
   * Runs a kernel: one operand per binding in order, one number per parameter in order.
   *
   * @throws what went wrong earlier on this device, if anything did
   */
  run<V>(
    kernel: Kernel<V>,
    variant: V,
    operands: readonly Operand[],
    params: readonly number[],
    groups: readonly [number, number?, number?],
  ): void {
    this.check();
    this.stream.profiler?.hostBegins();
    const { recorder } = this.stream;
    const compiled = this.kernels.get(kernel, variant, recorder?.ahead);
    const [fullX, fullY = 1, z = 1] = groups;
    const [items, x, y] = compiled.coarsened ? coarsenedGrid(fullX, fullY) : [1, fullX, fullY];
    if (x === 0 || y === 0 || z === 0) return;
    const { bindings } = compiled.source;
    if (operands.length !== bindings.length)
      throw new EngineError(compiled.name, `${operands.length} operands given`, {
        expected: `${bindings.length}, one a binding`,
      });
    const most = this.limits.maxComputeWorkgroupsPerDimension;
    if (x > most || y > most || z > most)
      throw new LimitError(compiled.name, `A grid of ${x} × ${y} × ${z} workgroups`, {
        expected: `at most ${most} a dimension`,
        remedy: 'use grid1d, which splits a long one',
      });
    const bound = operands.map((o, i): Bound => {
      if (bindings[i].access === 'write') o.storage.version++;
      return { storage: o.storage, offset: o.byteOffset, bytes: roundUp4(o.storage.bytes - o.byteOffset) };
    });
    const data = this.pack(compiled, compiled.coarsened ? [...params, items] : params);
    recorder?.dispatched(compiled, bound, data.slice(0), [x, y, z]);
    if (!recorder?.ahead) this.encode(compiled, bound, data, x, y, z);
  }

  /** The parameters as the kernel reads them, in memory that the next dispatch overwrites: commands have copied it by then. */
  private pack({ name, source, paramBytes }: Compiled, values: readonly number[]): ArrayBuffer {
    const { params = [] } = source;
    if (params.length !== values.length)
      throw new EngineError(name, `${values.length} parameters given`, { expected: `${params.length}` });
    if (!params.length) return EMPTY;
    let words = this.words.get(paramBytes);
    if (!words) {
      const buffer = new ArrayBuffer(paramBytes);
      this.words.set(
        paramBytes,
        (words = { u32: new Uint32Array(buffer), i32: new Int32Array(buffer), f32: new Float32Array(buffer) }),
      );
    }
    for (let i = 0; i < params.length; i++) words[params[i].type][i] = values[i];
    return words.u32.buffer;
  }

  private encode(
    compiled: Compiled,
    bound: readonly Bound[],
    data: ArrayBuffer,
    x: number,
    y: number,
    z: number,
  ): void {
    let key = `${compiled.source.bindings.length}:${compiled.id}`;
    for (const b of bound) key += `,${b.storage.buffer.id}+${b.offset}:${b.bytes}`;
    const uniform = compiled.paramBytes > 0 && !compiled.immediate ? this.uniform(data) : null;
    if (uniform) key += `|${uniformKey(data)}`;
    let group = this.groups.get(key);
    if (!group) {
      if (this.groups.size > 20000) this.groups.clear();
      group = this.bindGroup(
        compiled,
        bound.map((b) => ({ buffer: b.storage.buffer.gpu, offset: b.offset, size: b.bytes })),
        uniform,
      );
      this.groups.set(key, group);
    }
    for (const b of bound) touch(this.stream, b.storage.buffer);
    this.stream.dispatch(compiled, group, compiled.immediate && compiled.paramBytes ? data : null, x, y, z);
  }

  /** A bind group of a compiled kernel, for what keeps its own (capture). */
  bindGroup(compiled: Compiled, buffers: readonly GPUBufferBinding[], uniform: GPUBuffer | null): GPUBindGroup {
    const entries: GPUBindGroupEntry[] = buffers.map((resource, binding) => ({ binding, resource }));
    if (uniform) entries.push({ binding: entries.length, resource: { buffer: uniform } });
    return this.gpu.createBindGroup({ layout: compiled.layout, entries });
  }

  /** A uniform buffer with this content. Its content never changes, so that it may be shared and replayed. */
  uniform(data: ArrayBuffer): GPUBuffer {
    const key = uniformKey(data);
    let buffer = this.uniforms.get(key);
    if (!buffer) {
      // Bind groups hold on to the buffers that they use, so the cache may forget its own.
      if (this.uniforms.size > 4096) this.uniforms.clear();
      const UNIFORM_COPY_DST = 0x40 | 0x8;
      buffer = this.gpu.createBuffer({ size: Math.ceil(data.byteLength / 16) * 16, usage: UNIFORM_COPY_DST });
      this.gpu.queue.writeBuffer(buffer, 0, data);
      this.uniforms.set(key, buffer);
    }
    return buffer;
  }

  /** Throws what went wrong earlier on this device. It stays so: what was computed since can't be trusted. */
  check(): void {
    if (this.failure) throw this.failure;
  }

  /** Waits until everything submitted so far is done. */
  async synchronize(): Promise<void> {
    this.check();
    this.stream.flush();
    const { submits } = this.stream;
    await Promise.race([this.gpu.queue.onSubmittedWorkDone(), this.lost]);
    this.stream.waited(submits);
    await this.kernels.settled();
    this.check();
  }

  /** Reads bytes back. */
  async readBytes(storage: Bound['storage'], offset: number, bytes: number): Promise<ArrayBuffer> {
    this.check();
    this.stream.recorder?.refuse('reads values back', 'return tensors and read them after the step');
    const size = Math.max(4, roundUp4(bytes));
    const free = this.staging.get(size) ?? [];
    this.staging.set(size, free);
    const MAP_READ_COPY_DST = 0x1 | 0x8;
    const staging = free.pop() ?? this.gpu.createBuffer({ size, usage: MAP_READ_COPY_DST });
    if (bytes > 0) {
      this.stream.copy(storage.buffer, offset, staging, 0, size);
      // A host write has to come after the copy.
      touch(this.stream, storage.buffer);
    }
    try {
      // What is read back in one turn of the host is submitted together.
      await null;
      this.stream.flush();
      const { submits } = this.stream;
      await Promise.race([staging.mapAsync(1), this.lost]);
      this.stream.waited(submits);
      await this.kernels.settled();
      this.check();
      const result = staging.getMappedRange().slice(0, bytes);
      if (size <= STAGING_BYTES && free.length < STAGING_BUFFERS) {
        staging.unmap();
        free.push(staging);
      } else staging.destroy();
      return result;
    } catch (error) {
      staging.destroy();
      await this.kernels.settled();
      this.check();
      throw error;
    }
  }

  memory(): MemoryReport {
    const { liveBytes, pooledBytes, peakBytes } = this.pool;
    return { liveTensors: this.liveTensors, liveBytes, pooledBytes, peakBytes, leakedTensors: this.leakedTensors };
  }

  /** Gives free buffers back to the system. */
  trim(): void {
    this.stream.flush();
    this.groups.clear();
    for (const free of this.staging.values()) for (const buffer of free.splice(0)) buffer.destroy();
    this.staging.clear();
    this.pool.trim();
  }

  /** Measures every dispatch until it is set to null again. */
  set profiler(profiler: Profiler | null) {
    this.stream.flush();
    this.stream.profiler = profiler;
  }

  /** @internal Notices when the tensor is collected instead of disposed of. */
  watch(tensor: { readonly dtype: DType; readonly shape: Shape }): void {
    this.leaks.register(
      tensor,
      { dtype: tensor.dtype, shape: tensor.shape, stack: this.traceTensors ? new Error().stack : undefined },
      tensor,
    );
  }

  /** @internal */
  unwatch(tensor: object): void {
    this.leaks.unregister(tensor);
  }

  /**
   * Which tensors were lost: collected by the garbage collector without `dispose()`. Their memory stays taken. The collector runs
   * when it likes, so that the report may be late.
   */
  leakReport(): string {
    if (!this.leakedTensors) return 'No tensor was collected without dispose().';
    const lines = [...this.leaked].sort((a, b) => b[1] - a[1]).map(([text, count]) => `  ${count} × ${text}`);
    const hint = this.traceTensors ? '' : '\nSet device.traceTensors to see where they are made.';
    return `${this.leakedTensors} tensors were collected without dispose(); their memory is lost until the device is destroyed:\n${lines.join('\n')}${hint}`;
  }

  /** Frees everything on the device and lets the process exit. */
  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.failure = new DeviceLostError('device', 'The device was destroyed');
    this.stream.abandon();
    this.groups.clear();
    this.gpu.destroy();
    this.release();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/** What is remembered of a tensor that may be lost. */
interface Birth {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly stack: string | undefined;
}

/** The first place in a stack that is not in the engine itself; the last if all are. */
function madeAt(stack: string): string {
  const frames = stack
    .split('\n')
    .slice(1)
    .map((line) => line.trim().replace(/^at /, ''));
  return frames.find((frame) => !/[/\\]core[/\\](?!.*\.test\.)/.test(frame)) ?? frames.at(-1) ?? 'an unknown place';
}

/** One shape of the matrix unit, as Dawn reports it. */
export interface GPUSubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

function roundUp4(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

function uniformKey(data: ArrayBuffer): string {
  return new Uint32Array(data).join();
}

const EMPTY = new ArrayBuffer(0);

/** Buffers to read back through that are kept, of one size, and the largest of them. */
const STAGING_BUFFERS = 4,
  STAGING_BYTES = 1 << 20;

/** The same limits as numbers: what the implementation gives asks it each time. */
function plainLimits(limits: GPUSupportedLimits): GPUSupportedLimits {
  const plain: Record<string, number> = {};
  for (const name in limits) plain[name] = limits[name as 'maxBufferSize'];
  return Object.freeze(plain) as unknown as GPUSupportedLimits;
}
