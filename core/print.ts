// Text of a tensor's values, laid out as NumPy does.

import type { DType } from './dtype.ts';
import { numelOf, type Shape } from './shape.ts';

const EDGE = 3;
const THRESHOLD = 1000;

/** Values in brackets, columns aligned, the middle left out above 1,000 elements. */
export function format(data: ArrayLike<number>, shape: Shape, dtype: DType): string {
  const summary = data.length > THRESHOLD;
  const shown: number[] = [];
  const walk = (dim: number, at: number, each: (index: number) => void): void => {
    if (dim === shape.length) {
      each(at);
      return;
    }
    const step = numelOf(shape.slice(dim + 1));
    for (const i of rows(shape[dim], summary)) if (i >= 0) walk(dim + 1, at + i * step, each);
  };
  if (data.length) walk(0, 0, (i) => shown.push(data[i]));
  const text = formatter(shown, dtype);
  const width = Math.max(0, ...shown.map((v) => text(v).length));
  const build = (dim: number, at: number, indent: number): string => {
    if (dim === shape.length) return text(data[at]).padStart(width);
    const step = numelOf(shape.slice(dim + 1));
    const last = dim === shape.length - 1;
    const separator = last ? ' ' : '\n'.repeat(shape.length - dim - 1) + ' '.repeat(indent + 1);
    return `[${rows(shape[dim], summary).map((i) => (i < 0 ? '...' : build(dim + 1, at + i * step, indent + 1))).join(separator)}]`;
  };
  return build(0, 0, 0);
}

function rows(size: number, summary: boolean): number[] {
  const all = Array.from({ length: size }, (_, i) => i);
  return summary && size > 2 * EDGE ? [...all.slice(0, EDGE), -1, ...all.slice(-EDGE)] : all;
}

function formatter(values: readonly number[], dtype: DType): (v: number) => string {
  if (dtype === 'bool') return (v) => (v ? 'True' : 'False');
  if (dtype === 'i32' || dtype === 'u32') return String;
  const finite = values.filter((v) => Number.isFinite(v) && v !== 0).map(Math.abs);
  const largest = Math.max(0, ...finite), least = Math.min(Infinity, ...finite);
  const special = (v: number): string | null => (Number.isNaN(v) ? 'nan' : v === Infinity ? 'inf' : v === -Infinity ? '-inf' : null);
  if (finite.length && (largest >= 1e8 || least < 1e-4 || largest / least > 1000)) {
    return (v) => special(v) ?? v.toExponential(4).replace(/e([+-])(\d)$/, 'e$10$2');
  }
  // As many digits as the value with the most needs, at most 8, as NumPy does.
  const digits = Math.max(0, ...finite.map((v) => (trim(v.toFixed(8)).split('.')[1] ?? '').length));
  return (v) => special(v) ?? (digits ? v.toFixed(Math.min(8, digits)) : `${v}.`);
}

function trim(text: string): string {
  return text.replace(/\.?0+$/, '');
}
