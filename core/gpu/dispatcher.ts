// From a kernel with its operands to an encoded dispatch: checks what is given, packs the parameters, finds the
// compiled variant and the bind group.

import { EngineError, LimitError, ValueError, type ErrorDetails } from '../errors.ts';
import type { BindGroups } from './bindGroups.ts';
import type { Faults, Work } from './faults.ts';
import { coarsenedGrid } from './grid.ts';
import type { Kernel } from './kernel.ts';
import type { Compiled, KernelCache } from './kernelCache.ts';
import type { Bound } from './recorder.ts';
import type { Memory, Storage } from './storage.ts';
import { touch, type Stream } from './stream.ts';
import type { GPUSupportedLimits } from './webgpu.ts';

/**
 * Memory given to a kernel, from `byteOffset` on, which is a multiple of the adapter's offset alignment. A tensor
 * stands for its elements in row-major order: one that is strided is refused. A kernel that takes strides says so by
 * giving `{ storage, byteOffset }` instead.
 */
export interface Operand {
  readonly storage: Storage;
  readonly byteOffset: number;
  /** Of a tensor. */
  readonly isContiguous?: boolean;
  readonly shape?: readonly number[];
  readonly strides?: readonly number[];
}

/** Workgroups by dimension. */
export type Groups = readonly [number, number?, number?];

/** What a dispatcher works with. */
interface Parts extends Memory {
  readonly faults: Faults;
  readonly limits: GPUSupportedLimits;
  readonly kernels: KernelCache;
  readonly stream: Stream;
  readonly bindGroups: BindGroups;
}

/** Room for a kernel's parameters. */
interface Words {
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
}

const NO_PARAMETERS = new ArrayBuffer(0);

export class Dispatcher {
  private readonly parts: Parts;
  /** What the first byte of an operand is a multiple of. */
  private readonly alignment: number;
  /** By the parameters' bytes. */
  private readonly words = new Map<number, Words>();

  constructor(parts: Parts) {
    this.parts = parts;
    this.alignment = parts.limits.minStorageBufferOffsetAlignment;
  }

  /** Runs a kernel: one operand per binding in order, one number per parameter in order. */
  run<V extends object>(
    kernel: Kernel<V>,
    variant: V,
    operands: readonly Operand[],
    params: readonly number[],
    groups: Groups,
  ): void {
    const { limits, kernels, stream, bindGroups } = this.parts;
    stream.profiler?.hostBegins();
    const { recorder } = stream;
    const compiled = kernels.get(kernel, variant, recorder?.ahead);
    const [fullX, fullY = 1, z = 1] = groups;
    const [items, x, y] = compiled.coarsened ? coarsenedGrid(fullX, fullY) : [1, fullX, fullY];
    if (x === 0 || y === 0 || z === 0) return;
    const { bindings } = compiled.source;
    if (operands.length !== bindings.length)
      throw new EngineError(compiled.name, `${operands.length} operands given`, {
        expected: `${bindings.length}, one a binding`,
      });
    const most = limits.maxComputeWorkgroupsPerDimension;
    if (x > most || y > most || z > most)
      throw new LimitError(compiled.name, `A grid of ${x} × ${y} × ${z} workgroups`, {
        expected: `at most ${most} a dimension`,
        remedy: 'use grid1d, which splits a long one',
      });
    const bound: Bound[] = [];
    for (let i = 0; i < operands.length; i++) bound.push(this.bind(compiled, i, operands[i]));
    for (let i = 0; i < bound.length; i++)
      if (bindings[i].access === 'write') {
        const { storage } = bound[i];
        storage.version++;
        if (storage.failure) storage.failure = null;
      }
    const data = this.pack(compiled, compiled.coarsened ? [...params, items] : params);
    recorder?.dispatched(compiled, bound, data.slice(0), [x, y, z]);
    if (recorder?.ahead) return;
    const work = new DispatchWork(compiled, bound);
    const group = bindGroups.get(compiled, bound, data);
    for (const b of bound) touch(stream, b.storage.buffer);
    stream.dispatch(work, compiled, group, compiled.immediate && compiled.paramBytes ? data : null, x, y, z);
  }

  /** The memory of an operand, unless it is none that the kernel can take. */
  private bind(compiled: Compiled, i: number, operand: Operand): Bound {
    const { storage, byteOffset } = operand;
    if (storage.failure && (compiled.source.bindings[i].access === 'read' || storage.memoryFailure))
      this.parts.faults.check(storage);
    if (!storage.isOn(this.parts))
      throw refusal(compiled, i, 'lies on another device', {
        expected: 'memory of the device that runs the kernel',
        remedy: 'copy it: tensor(device, await x.data(), { shape: x.shape })',
      });
    if (operand.isContiguous === false)
      throw refusal(
        compiled,
        i,
        `is a view of shape (${operand.shape?.join()}) with strides (${operand.strides?.join()})`,
        {
          expected: 'elements in row-major order',
          remedy: 'pass dense(x), or { storage, byteOffset } to a kernel that takes strides',
        },
      );
    const { alignment } = this;
    if (byteOffset !== 0 && byteOffset % alignment !== 0)
      throw refusal(compiled, i, `begins at byte ${byteOffset}`, {
        expected: `a multiple of ${alignment}, which the adapter can bind`,
        remedy: 'pass dense(x)',
      });
    const bytes = roundUp4(storage.bytes - byteOffset);
    if (!(byteOffset >= 0 && bytes > 0))
      throw refusal(compiled, i, `begins at byte ${byteOffset}`, {
        expected: `a place in its storage of ${storage.bytes} bytes`,
        remedy: 'check its offset',
      });
    return { storage, offset: byteOffset, bytes };
  }

  /**
   * The parameters as the kernel reads them, in memory that the next dispatch overwrites: commands have copied it by
   * then.
   */
  private pack({ name, source, paramBytes }: Compiled, values: readonly number[]): ArrayBuffer {
    const { params = [] } = source;
    if (params.length !== values.length)
      throw new EngineError(name, `${values.length} parameters given`, { expected: `${params.length}` });
    if (!params.length) return NO_PARAMETERS;
    let words = this.words.get(paramBytes);
    if (!words) {
      const buffer = new ArrayBuffer(paramBytes);
      words = { u32: new Uint32Array(buffer), i32: new Int32Array(buffer), f32: new Float32Array(buffer) };
      this.words.set(paramBytes, words);
    }
    for (let i = 0; i < params.length; i++) words[params[i].type][i] = values[i];
    return words.u32.buffer;
  }
}

/** A dispatch as work that may fail. */
export class DispatchWork implements Work {
  private readonly kernel: Compiled;
  private readonly bound: readonly Bound[];

  constructor(kernel: Compiled, bound: readonly Bound[]) {
    this.kernel = kernel;
    this.bound = bound;
  }

  get cause(): Error | null {
    return (
      this.kernel.verdict.failure ??
      this.bound.find(({ storage }) => storage.memoryFailure)?.storage.memoryFailure ??
      null
    );
  }

  get touched(): Storage[] {
    return this.bound.map(({ storage }) => storage);
  }

  get written(): Storage[] {
    const { bindings } = this.kernel.source;
    return this.touched.filter((_, i) => bindings[i].access === 'write');
  }
}

/** The error of an operand that the kernel cannot take, which is called by the name of its binding. */
function refusal({ name, source }: Compiled, i: number, what: string, details: ErrorDetails): ValueError {
  return new ValueError(name, `Operand ${source.bindings[i].name} ${what}`, details);
}

function roundUp4(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}
