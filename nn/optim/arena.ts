// One flat tensor that holds many. What an optimizer does to all parameters then takes one dispatch, not hundreds.

import { FormatError, ShapeError } from '../../core/errors.ts';
import {
  EngineError,
  keep,
  noGrad,
  sameShape,
  scope,
  show,
  type Tensor,
  zeros,
  type Device,
  type DType,
  type Shape,
} from '../../core/index.ts';
import type { SafetensorsEntry } from '../formats/safetensors.ts';
import type { HostTensor } from '../module.ts';
import { hostValues } from '../stateDict.ts';

/** Values by name. */
export type StateTensors = ReadonlyMap<string, HostTensor | SafetensorsEntry>;

/**
 * Each tensor begins at a multiple of so many elements: 256 bytes even in f16, the largest alignment of bindings that
 * adapters ask for.
 */
const ALIGNMENT = 128;

interface Place {
  readonly shape: Shape;
  readonly numel: number;
  readonly offset: number;
}

/** Where the tensors lie in an arena, in order. Gaps stay zero. */
export class ArenaLayout {
  readonly places: ReadonlyMap<string, Place>;
  /** Elements of the whole, gaps included. */
  readonly numel: number;

  constructor(tensors: Iterable<readonly [name: string, tensor: { readonly shape: Shape; readonly numel: number }]>) {
    const places = new Map<string, Place>();
    let offset = 0;
    for (const [name, { shape, numel }] of tensors) {
      places.set(name, { shape, numel, offset });
      offset = Math.ceil((offset + numel) / ALIGNMENT) * ALIGNMENT;
    }
    this.places = places;
    this.numel = offset;
  }

  /** The first element after the tensors named, gaps included. They must be the first ones. */
  end(names: readonly string[]): number {
    const last = names.length ? this.places.get(names[names.length - 1])! : null;
    return last ? Math.ceil((last.offset + last.numel) / ALIGNMENT) * ALIGNMENT : 0;
  }
}

/** An arena of one type. It lives until `dispose()`; its memory lives as long as any view of it. */
export class Arena {
  readonly layout: ArenaLayout;
  /** The whole as one tensor. */
  readonly flat: Tensor;

  constructor(device: Device, layout: ArenaLayout, dtype: DType = 'f32') {
    this.layout = layout;
    this.flat = keep(zeros(device, [layout.numel], dtype));
  }

  /** A new view of one tensor. */
  view(name: string): Tensor {
    const { shape, numel, offset } = this.place(name);
    return noGrad(() => scope(() => this.flat.slice(0, offset, offset + numel).reshape(...shape)));
  }

  /** Values of all tensors, in one readback. */
  async read(): Promise<Map<string, { readonly shape: Shape; readonly data: Float32Array }>> {
    const all = (await this.flat.data()) as Float32Array;
    return new Map(
      Array.from(this.layout.places, ([name, { shape, numel, offset }]) => [
        name,
        { shape, data: all.subarray(offset, offset + numel) },
      ]),
    );
  }

  /**
   * The values of all tensors in a state, as `write` takes them.
   *
   * @param operation who asks, for errors
   * @param prefix before each tensor's name in the state; `told` before it in errors
   * @throws FormatError, ShapeError where one is missing or of another shape
   */
  valuesIn(
    state: StateTensors,
    { operation, prefix, told = prefix }: { operation: string; prefix: string; told?: string },
  ): (name: string) => ArrayLike<number> {
    for (const [name, { shape }] of this.layout.places) {
      const entry = state.get(prefix + name);
      if (!entry) throw new FormatError(operation, `${told}${name} is missing in the state`);
      if (!sameShape(entry.shape, shape))
        throw new ShapeError(operation, `${told}${name} has shape ${show(entry.shape)} in the state`, {
          expected: show(shape),
        });
    }
    return (name) => hostValues(state.get(prefix + name)!) as ArrayLike<number>;
  }

  /** Overwrites everything. `values` gives the values of each tensor, in row-major order. */
  write(values: (name: string, shape: Shape) => ArrayLike<number>): void {
    const all = new Float32Array(this.layout.numel);
    for (const [name, { shape, offset }] of this.layout.places) all.set(values(name, shape), offset);
    this.flat.write(all);
  }

  dispose(): void {
    this.flat.dispose();
  }

  private place(name: string): Place {
    const place = this.layout.places.get(name);
    if (!place)
      throw new EngineError('arena', `There is no place named ${name}`, { remedy: 'this is a defect of the engine' });
    return place;
  }
}
