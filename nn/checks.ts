// Checks that constructors of layers share.

import { ValueError } from '../core/index.ts';

/** @throws ValueError unless every size is a whole number from 1 on */
export function checkSizes(layer: string, sizes: Readonly<Record<string, number>>): void {
  for (const [name, size] of Object.entries(sizes)) {
    if (!Number.isInteger(size) || size < 1)
      throw new ValueError(layer, `is ${size}`, { option: name, expected: 'a whole number from 1 on' });
  }
}

/** @throws ValueError unless the number is from 0 to 1 */
export function checkProbability(layer: string, p: number): void {
  if (!(p >= 0 && p <= 1)) throw new ValueError(layer, `The probability is ${p}`, { expected: '0 to 1' });
}
