// What kernels of expressions share, whatever their elements are and whether they map or reduce: operands as bindings,
// values that are loaded from them and stored to them.

import type { KernelBinding, KernelExtension } from '../gpu/kernel.ts';
import { storageType, type DType } from '../tensor/dtype.ts';
import { computedType, wide } from './wgsl.ts';

/** A tensor that a kernel reads or writes. */
export interface Operand {
  readonly name: string;
  readonly type: DType;
  readonly access: 'read' | 'write';
  /** Whether it is bound as vectors of four. */
  readonly vec: boolean;
}

/** How four elements that a kernel takes at once lie in an operand: as a vector, as one value for all, anywhere. */
export type Access = 'vector' | 'splat' | 'gather';

export function bindingsOf(operands: readonly Operand[]): KernelBinding[] {
  return operands.map(({ name, type, access, vec }) => ({
    name,
    access,
    type: `array<${wide(storageType(type), vec)}>`,
  }));
}

export function extensionsOf(operands: readonly Operand[]): KernelExtension[] {
  return operands.some((o) => o.type === 'f16') ? ['f16'] : [];
}

/**
 * The value at an index.
 *
 * @param vec whether four elements are wanted
 * @param access how they lie
 * @param step of elements from one to the next, for `gather`
 */
export function loaded({ name, type }: Operand, index: string, vec: boolean, access: Access, step = ''): string {
  const value = (text: string, four: boolean): string => {
    if (type === 'bool') return `(${text} != ${wide('u32', four)}(0))`;
    return type === 'f16' ? `${wide('f32', four)}(${text})` : text;
  };
  if (!vec) return value(`${name}[${index}]`, false);
  if (access === 'vector') return value(`${name}[${index}]`, true);
  const t = wide(computedType(type), true);
  if (access === 'splat') return `${t}(${value(`${name}[${index}]`, false)})`;
  return `${t}(${[0, 1, 2, 3].map((k) => value(`${name}[${index} + ${k} * ${step}]`, false)).join(', ')})`;
}

/** Writes a value of the operand's type. */
export function stored({ name, type }: Operand, index: string, value: string, vec: boolean): string {
  const t = wide(storageType(type), vec);
  const text = type === 'bool' ? `select(${t}(0), ${t}(1), ${value})` : type === 'f16' ? `${t}(${value})` : value;
  return `${name}[${index}] = ${text};`;
}
