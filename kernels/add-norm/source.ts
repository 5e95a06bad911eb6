// What the norm kernels' sources have in common: vectors of 4 where the width allows, rows held in registers or
// streamed.

import type { FloatDType } from '../../core/index.ts';
import type { KernelBinding, KernelExtension } from '../../core/kit.ts';
import type { Team } from './team.ts';

export interface RowCode {
  /** Elements of a vector: 4 where the width is a multiple of it. */
  readonly vector: 1 | 4;
  /** Vectors of a row. */
  readonly count: number;
  /** WGSL type of a vector in f32. */
  readonly value: string;
  readonly zero: string;
  /** Type of an array of rows in storage. */
  array(type: FloatDType): string;
  /** Converts an expression from storage to f32, or from f32 to storage. */
  load(expression: string): string;
  store(type: FloatDType, expression: string): string;
  /** The sum of a vector's elements. */
  total(expression: string): string;
  /**
   * `code` for each of the lane's vectors: `i` is the vector's index, `slot` the suffix of the variables that keep it.
   */
  each(code: (i: string, slot: string) => string): string;
  /** Declares a variable of zeros for each of the lane's vectors; nothing where rows are streamed. */
  declare(name: string): string;
}

/** Code over rows of `width`, each shared by a team; with `keep` unrolled, so that values stay in registers. */
export function rowCode(width: number, team: Team, keep: boolean): RowCode {
  const vector = width % 4 === 0 ? 4 : 1;
  const count = width / vector;
  const value = vector === 4 ? 'vec4<f32>' : 'f32';
  const steps = Math.ceil(count / team.size);
  return {
    vector,
    count,
    value,
    zero: `${value}(0)`,
    array: (type) => `array<${vector === 4 ? `vec4<${type}>` : type}>`,
    load: (expression) => `${value}(${expression})`,
    store: (type, expression) => (type === 'f32' ? expression : `${vector === 4 ? 'vec4<f16>' : 'f16'}(${expression})`),
    total: (expression) => (vector === 4 ? `dot(${expression}, vec4<f32>(1))` : expression),
    each(code) {
      if (!keep) return `for (var i = lane_; i < ${count}u; i += ${team.size}u) {\n${code('i', '')}\n}`;
      const lines: string[] = [];
      for (let step = 0; step < steps; step++) {
        const full = (step + 1) * team.size <= count;
        const body = code('i', String(step));
        lines.push(`{ let i = lane_ + ${step * team.size}u;\n${full ? body : `if (i < ${count}u) {\n${body}\n}`}\n}`);
      }
      return lines.join('\n');
    },
    declare(name) {
      if (!keep) return '';
      return Array.from({ length: steps }, (_, step) => `var ${name}${step} = ${value}(0);`).join('\n');
    },
  };
}

/** The bindings that are there, in order, and whether any of them needs f16. */
export function bindings(
  row: RowCode,
  list: readonly (readonly [name: string, type: FloatDType | null, access: 'read' | 'write'])[],
): KernelBinding[] {
  return list.flatMap(([name, type, access]) => (type === null ? [] : [{ name, type: row.array(type), access }]));
}

export function f16Of(list: readonly KernelBinding[]): KernelExtension[] {
  return list.some((b) => b.type.includes('f16')) ? ['f16'] : [];
}

/** WGSL type of a row's statistics: (mean, rstd), and the factor of its x where there are factors. */
export function statsType(factors: boolean): string {
  return `array<${factors ? 'vec4f' : 'vec2f'}>`;
}
