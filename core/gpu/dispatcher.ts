// From a kernel with its operands to an encoded dispatch: checks what is given, packs the parameters, finds the compiled variant and
// the bind group.

import { EngineError, LimitError } from '../errors.ts';
import type { BindGroups } from './bindGroups.ts';
import { coarsenedGrid } from './grid.ts';
import type { Kernel } from './kernel.ts';
import type { Compiled, KernelCache } from './kernelCache.ts';
import type { Bound } from './recorder.ts';
import type { Storage } from './storage.ts';
import { touch, type Stream } from './stream.ts';

/** A tensor or part of one, given to a kernel. */
export interface Operand {
  readonly storage: Storage;
  /** First byte. Must be a multiple of the adapter's offset alignment. */
  readonly byteOffset: number;
}

/** Workgroups by dimension. */
export type Groups = readonly [number, number?, number?];

/** What a dispatcher works with. */
interface Parts {
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
  /** By the parameters' bytes. */
  private readonly words = new Map<number, Words>();

  constructor(parts: Parts) {
    this.parts = parts;
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
    const bound = operands.map((o, i): Bound => {
      if (bindings[i].access === 'write') o.storage.version++;
      return { storage: o.storage, offset: o.byteOffset, bytes: roundUp4(o.storage.bytes - o.byteOffset) };
    });
    const data = this.pack(compiled, compiled.coarsened ? [...params, items] : params);
    recorder?.dispatched(compiled, bound, data.slice(0), [x, y, z]);
    if (recorder?.ahead) return;
    const group = bindGroups.get(compiled, bound, data);
    for (const b of bound) touch(stream, b.storage.buffer);
    stream.dispatch(compiled, group, compiled.immediate && compiled.paramBytes ? data : null, x, y, z);
  }

  /** The parameters as the kernel reads them, in memory that the next dispatch overwrites: commands have copied it by then. */
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

function roundUp4(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}
