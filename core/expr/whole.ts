// Integers beside numbers: JavaScript's numbers have values that i32 and u32 don't. Comparisons, clamp, minimum and
// maximum are exact whatever the number is; elsewhere a whole number that the type can't hold is an error. NumPy does
// the same.

import { ValueError } from '../errors.ts';
import { rangeOf, type DType } from '../tensor/dtype.ts';

const COMPARISONS = ['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const;
export type Comparison = (typeof COMPARISONS)[number];

/** The comparison that says the same of the operands in the other order. */
export const SWAPPED = { lt: 'gt', le: 'ge', gt: 'lt', ge: 'le', eq: 'eq', ne: 'ne' } as const;

export function isComparison(op: string): op is Comparison {
  return (COMPARISONS as readonly string[]).includes(op);
}

/** A comparison of whole numbers with a value of their type that says the same as `op` with any number. */
export function wholeComparison(op: Comparison, value: number, type: 'i32' | 'u32'): [Comparison, number] {
  const [least, most] = rangeOf(type);
  const never: [Comparison, number] = ['lt', least];
  const always: [Comparison, number] = ['ge', least];
  if (Number.isNaN(value)) return op === 'ne' ? always : never;
  const up = op === 'lt' || op === 'ge';
  const whole = up ? Math.ceil(value) : Math.floor(value);
  if (op === 'eq' || op === 'ne') {
    if (whole !== value || value < least || value > most) return op === 'ne' ? always : never;
  } else if (whole < least) return op === 'lt' || op === 'le' ? never : always;
  else if (whole > most) return op === 'lt' || op === 'le' ? always : never;
  return [op, whole];
}

/**
 * The number as a value of an integer type: itself, or for a bound of clamp, minimum and maximum the end of the range
 * that says the same.
 *
 * @param position of the number among the operands
 * @throws ValueError where the type can't hold it
 */
export function nearestWhole(op: string, value: number, type: DType, position: number): number {
  if (type !== 'i32' && type !== 'u32') return value;
  const [least, most] = rangeOf(type);
  if (value >= least && value <= most) return value;
  const lower = op === 'maximum' || (op === 'clamp' && position === 1);
  const upper = op === 'minimum' || (op === 'clamp' && position === 2);
  if (lower && value < least) return least;
  if (upper && value > most) return most;
  throw new ValueError(op, `The number ${value} stands beside ${type} values`, {
    expected: `one from ${least} to ${most}`,
    remedy: 'cast() the tensor to f32',
  });
}
