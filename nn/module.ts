// The base of all layers. A module finds its state by going through its own properties: tensors marked by parameter()
// or buffer(), modules, and arrays of these. Nothing is registered. Names are property names and array indices, as in
// PyTorch.

import { ShapeError } from '../core/errors.ts';
import { noGrad, sameShape, show, Tensor, type DType } from '../core/index.ts';
import { buffer, parameter, roleOf } from './parameter.ts';
import { loadEntries, type LoadReport, type StateEntries } from './stateDict.ts';

export type { HostTensor, LoadReport, StateEntries } from './stateDict.ts';

type Slot = Record<string, unknown>;

/**
 * A layer or a model. Subclasses assign parameters, buffers and child modules to properties and add a `forward`. The
 * order is PyTorch's: a module's own tensors, then those of its children, each in order of assignment.
 */
export abstract class Module {
  /** Whether dropout and the like are active. */
  training = true;

  /** Child modules with their names, in order. */
  *namedChildren(): Generator<[name: string, child: Module]> {
    for (const [name, value] of slots(this)) if (value instanceof Module) yield [name, value];
  }

  /** This module and all below it, each once. */
  *namedModules(prefix = '', seen = new Set<Module>()): Generator<[name: string, module: Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) yield* child.namedModules(join(prefix, name), seen);
  }

  /** Parameters with their full names; one that is shared appears once, under its first name. */
  *namedParameters(prefix = ''): Generator<[name: string, parameter: Tensor]> {
    yield* unique(walk(this, prefix), (t) => roleOf(t) === 'parameter');
  }

  /** Buffers with their full names. */
  *namedBuffers(prefix = ''): Generator<[name: string, buffer: Tensor]> {
    yield* unique(walk(this, prefix), (t) => roleOf(t) !== 'parameter');
  }

  /** All parameters, each once. */
  parameters(): Tensor[] {
    return Array.from(this.namedParameters(), ([, p]) => p);
  }

  /** Number of values in all parameters. */
  parameterCount(): number {
    return this.parameters().reduce((sum, p) => sum + p.numel, 0);
  }

  /** Sets training mode here and below. */
  train(mode = true): this {
    for (const [, module] of this.namedModules()) module.training = mode;
    return this;
  }

  /** Sets evaluation mode here and below: no dropout. */
  eval(): this {
    return this.train(false);
  }

  /** Freezes or unfreezes all parameters. */
  requiresGrad_(wanted = true): this {
    for (const p of this.parameters()) p.requiresGrad_(wanted);
    return this;
  }

  /** Drops the gradients of all parameters. */
  zeroGrad(): void {
    for (const p of this.parameters()) p.grad = null;
  }

  /**
   * Parameters and persistent buffers by full name: the tensors themselves, not copies. A shared tensor appears under
   * each of its names.
   */
  stateDict(prefix = ''): Map<string, Tensor> {
    const state = new Map<string, Tensor>();
    for (const { name, tensor } of walk(this, prefix)) if (roleOf(tensor) !== 'transient') state.set(name, tensor);
    return state;
  }

  /**
   * Overwrites parameters and buffers in place, cast to their types. Nothing is written unless everything fits; with
   * `strict` false, names on one side only are left alone and reported.
   *
   * @throws ShapeError naming every tensor whose shape differs
   * @throws ValueError naming every missing and unexpected tensor, when `strict`
   */
  loadStateDict(entries: StateEntries, options: { strict?: boolean } = {}): LoadReport {
    return loadEntries(this.stateDict(), entries, options);
  }

  /**
   * Converts parameters and floating-point buffers to `f32` or `f16`. The tensors are new ones, so make optimizers
   * after it.
   */
  to(dtype: DType): this {
    const made = new Map<Tensor, Tensor>();
    for (const { tensor, replace } of [...walk(this, '')]) {
      const role = roleOf(tensor);
      if (tensor.dtype === dtype || (tensor.dtype !== 'f32' && tensor.dtype !== 'f16')) continue;
      let cast = made.get(tensor);
      if (!cast) {
        const values = noGrad(() => tensor.cast(dtype));
        cast =
          role === 'parameter'
            ? parameter(values, { requiresGrad: tensor.requiresGrad })
            : buffer(values, { persistent: role !== 'transient' });
        made.set(tensor, cast);
      }
      replace(cast);
    }
    for (const old of made.keys()) old.dispose();
    return this;
  }

  /**
   * Replaces parameters or buffers by other tensors; a shared one is replaced everywhere. Roles and requiresGrad are
   * kept. The caller still owns the old tensors. Optimizers that move parameters use it.
   */
  replaceTensors(replacements: ReadonlyMap<Tensor, Tensor>): void {
    for (const { tensor, replace } of [...walk(this, '')]) {
      const next = replacements.get(tensor);
      if (!next) continue;
      if (!sameShape(next.shape, tensor.shape))
        throw new ShapeError(
          'replaceTensors',
          `A tensor of shape ${show(next.shape)} can't take the place of one of shape ${show(tensor.shape)}`,
        );
      const role = roleOf(tensor);
      replace(
        role === 'parameter'
          ? parameter(next, { requiresGrad: tensor.requiresGrad })
          : buffer(next, { persistent: role !== 'transient' }),
      );
    }
  }

  /** Frees the memory of all parameters and buffers. May be called again. */
  dispose(): void {
    for (const { tensor } of walk(this, '')) tensor.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

interface Found {
  readonly name: string;
  readonly tensor: Tensor;
  readonly replace: (t: Tensor) => void;
}

/** Modules and marked tensors that a module holds, with their names, also those in arrays. */
function* slots(
  owner: object,
  prefix = '',
): Generator<[name: string, value: Module | Tensor, replace: (t: Tensor) => void]> {
  for (const [key, value] of Object.entries(owner) as [string, unknown][]) {
    const name = join(prefix, key);
    if (value instanceof Module || (value instanceof Tensor && roleOf(value)))
      yield [
        name,
        value,
        (t) => {
          (owner as Slot)[key] = t;
        },
      ];
    else if (Array.isArray(value)) yield* slots(value, name);
  }
}

/**
 * Every marked tensor: a module's own, then its children's. A module that occurs twice gives its tensors under both
 * names.
 */
function* walk(module: Module, prefix: string): Generator<Found> {
  for (const [name, value, replace] of slots(module))
    if (value instanceof Tensor) yield { name: join(prefix, name), tensor: value, replace };
  for (const [name, child] of module.namedChildren()) yield* walk(child, join(prefix, name));
}

function* unique(found: Iterable<Found>, wanted: (t: Tensor) => boolean): Generator<[string, Tensor]> {
  const seen = new Set<Tensor>();
  for (const { name, tensor } of found) {
    if (!wanted(tensor) || seen.has(tensor)) continue;
    seen.add(tensor);
    yield [name, tensor];
  }
}

function join(prefix: string, name: string): string {
  return prefix ? `${prefix}.${name}` : name;
}
