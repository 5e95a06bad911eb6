// Einstein summation, by permutations, products and sums that have derivatives of their own.

import { ShapeError, ValueError } from '../errors.ts';
import { show } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { matmul } from './matmul.ts';
import { permute, reshape } from './movement.ts';
import { sum } from './reduce.ts';

/** A tensor whose dimensions have letters. */
interface Labelled {
  readonly x: Tensor;
  readonly labels: string;
}

/**
 * `einsum('bij,bjk->bik', x, y)`: letters that are missing in the result are summed over. Without `->` the result has the letters
 * that occur once, in alphabetical order. Operands are contracted from left to right; a letter may occur once in each.
 *
 * @throws ValueError for an equation that can't be read, ShapeError for sizes that differ
 */
export function einsum(equation: string, ...operands: Tensor[]): Tensor {
  const text = equation.replaceAll(' ', '');
  const match = /^([A-Za-z]*(?:,[A-Za-z]*)*)(?:->([A-Za-z]*))?$/.exec(text);
  if (!match) throw new ValueError(`[einsum] The equation '${equation}' can't be read, expected letters like 'bij,bjk->bik'.`);
  const inputs = match[1].split(',');
  if (inputs.length !== operands.length) throw new ValueError(`[einsum] The equation '${equation}' has ${inputs.length} operands, ${operands.length} are given.`);
  const all = inputs.join('');
  const output = match[2] ?? [...new Set(all)].filter((c) => all.split(c).length === 2).sort().join('');
  const sizes = new Map<string, number>();
  inputs.forEach((labels, k) => {
    if (new Set(labels).size !== labels.length) throw new ValueError(`[einsum] Operand '${labels}' has a letter twice, which is not supported; take the diagonal first.`);
    if (labels.length !== operands[k].ndim) throw new ShapeError(`[einsum] Operand '${labels}' has shape ${show(operands[k].shape)}, expected ${labels.length} dimensions.`);
    [...labels].forEach((c, i) => {
      const size = operands[k].shape[i];
      if ((sizes.get(c) ?? size) !== size) throw new ShapeError(`[einsum] '${c}' is ${sizes.get(c)} in one operand and ${size} in another.`);
      sizes.set(c, size);
    });
  });
  for (const c of output) if (!sizes.has(c)) throw new ValueError(`[einsum] '${c}' is in the result and in no operand.`);
  if (new Set(output).size !== output.length) throw new ValueError(`[einsum] The result '${output}' has a letter twice.`);

  let acc: Labelled = { x: operands[0], labels: inputs[0] };
  for (let k = 1; k < operands.length; k++) {
    const later = inputs.slice(k + 1).join('') + output;
    acc = contract(acc, { x: operands[k], labels: inputs[k] }, later, sizes);
  }
  acc = sumOut(acc, output);
  return permute(acc.x, [...output].map((c) => acc.labels.indexOf(c)));
}

/** Sums over letters that nobody needs any more. */
function sumOut({ x, labels }: Labelled, needed: string): Labelled {
  const axes = [...labels].flatMap((c, i) => (needed.includes(c) ? [] : [i]));
  return axes.length ? { x: sum(x, axes), labels: [...labels].filter((c) => needed.includes(c)).join('') } : { x, labels };
}

/** One batched matrix product: letters of both that are still needed are the batch, those that are not are summed. */
function contract(a: Labelled, b: Labelled, later: string, sizes: ReadonlyMap<string, number>): Labelled {
  const left = sumOut(a, b.labels + later), right = sumOut(b, a.labels + later);
  const both = [...left.labels].filter((c) => right.labels.includes(c));
  const batch = both.filter((c) => later.includes(c)), summed = both.filter((c) => !later.includes(c));
  const rows = [...left.labels].filter((c) => !both.includes(c)), cols = [...right.labels].filter((c) => !both.includes(c));
  const order = ({ x, labels }: Labelled, letters: readonly string[]): Tensor => permute(x, letters.map((c) => labels.indexOf(c)));
  const product = (letters: readonly string[]): number => letters.reduce((n, c) => n * sizes.get(c)!, 1);
  const x = reshape(order(left, [...batch, ...rows, ...summed]), [product(batch), product(rows), product(summed)]);
  const y = reshape(order(right, [...batch, ...summed, ...cols]), [product(batch), product(summed), product(cols)]);
  const letters = [...batch, ...rows, ...cols];
  return { x: reshape(matmul(x, y), letters.map((c) => sizes.get(c)!)), labels: letters.join('') };
}
