// Einstein summation, by permutations, products and sums that have derivatives of their own.

import { ShapeError, ValueError } from '../errors.ts';
import { scope } from '../tensor/scope.ts';
import { show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { eye } from './create.ts';
import { where } from './elementwise.ts';
import { matmul } from './matmul.ts';
import { permute, reshape } from './movement.ts';
import { sum } from './reduce.ts';

/** A tensor whose dimensions have letters. */
interface Labelled {
  readonly x: Tensor;
  readonly labels: string;
}

/**
 * `einsum('bij,bjk->bik', x, y)`: letters that are missing in the result are summed over. Without `->` the result has
 * the letters that occur once, in alphabetical order. `...` stands for leading dimensions of any number, which
 * broadcast; a letter that is twice in one operand takes its diagonal; sizes of 1 broadcast. Operands are contracted
 * from left to right.
 *
 * @throws ValueError for an equation that can't be read, ShapeError for sizes that differ
 */
export function einsum(equation: string, ...operands: Tensor[]): Tensor {
  const { inputs, output, sizes } = parse(equation, operands);
  return scope(() => {
    const terms = operands.map((x, k) => reduced({ x, labels: inputs[k] }, sizes));
    let acc = terms[0];
    for (let k = 1; k < terms.length; k++)
      acc = contract(
        acc,
        terms[k],
        terms
          .slice(k + 1)
          .map((t) => t.labels)
          .join('') + output,
        sizes,
      );
    acc = sumOut(acc, output);
    return permute(
      acc.x,
      [...output].map((c) => acc.labels.indexOf(c)),
    );
  });
}

/** Labels of the operands and of the result, one character a dimension; those behind `...` are digits. */
function parse(
  equation: string,
  operands: readonly Tensor[],
): { inputs: string[]; output: string; sizes: Map<string, number> } {
  const match = /^((?:[A-Za-z]|\.{3}|,)*)(?:->((?:[A-Za-z]|\.{3})*))?$/.exec(equation.replaceAll(' ', ''));
  const terms = match?.[1].split(',') ?? [];
  if (!match || [...terms, match[2] ?? ''].some((term) => term.split('...').length > 2))
    throw new ValueError('einsum', `The equation '${equation}' can't be read`, {
      expected: "letters like 'bij,bjk->bik'",
    });
  if (terms.length !== operands.length)
    throw new ValueError(
      'einsum',
      `The equation '${equation}' has ${terms.length} operands, ${operands.length} are given`,
    );
  const open = terms.map((term, k) => {
    const named = term.replace('...', '').length,
      { ndim, shape } = operands[k];
    if (term.includes('...') ? ndim < named : ndim !== named)
      throw new ShapeError('einsum', `Operand '${term}' has shape ${show(shape)}`, {
        expected: `${named} dimensions${term.includes('...') ? ' or more' : ''}`,
      });
    return ndim - named;
  });
  const most = Math.max(...open);
  if (most > 10) throw new ValueError('einsum', `'...' stands for ${most} dimensions`, { expected: 'at most 10' });
  const digits = '0123456789'.slice(0, most);
  const inputs = terms.map((term, k) => term.replace('...', digits.slice(most - open[k])));
  const all = inputs.join('');
  const output =
    match[2]?.replace('...', digits) ??
    digits +
      [...new Set(all)]
        .filter((c) => /[A-Za-z]/.test(c) && all.split(c).length === 2)
        .sort()
        .join('');
  const sizes = new Map<string, number>();
  inputs.forEach((labels, k) =>
    [...labels].forEach((c, i) => {
      const size = operands[k].shape[i],
        known = sizes.get(c) ?? 1;
      if (size !== known && size !== 1 && known !== 1)
        throw new ShapeError('einsum', `'${c}' is ${known} in one place and ${size} in another`);
      sizes.set(c, known === 1 ? size : known);
    }),
  );
  for (const c of output)
    if (!sizes.has(c)) throw new ValueError('einsum', `'${c}' is in the result and in no operand`);
  if (new Set(output).size !== output.length)
    throw new ValueError('einsum', `The result '${output}' has a letter twice`);
  return { inputs, output, sizes };
}

/** The operand with each letter once and of full size: diagonals taken, dimensions that broadcast left out. */
function reduced({ x, labels }: Labelled, sizes: ReadonlyMap<string, number>): Labelled {
  const wide = [...labels].flatMap((c, i) => (x.shape[i] === sizes.get(c) ? [i] : []));
  let t =
    wide.length < x.ndim
      ? reshape(
          x,
          wide.map((i) => x.shape[i]),
        )
      : x;
  let rest = wide.map((i) => labels[i]).join('');
  for (let j = rest.length - 1; j > 0; j--) {
    const i = rest.indexOf(rest[j]);
    if (i === j) continue;
    const mask = reshape(
      eye(t.device, t.shape[i], 'bool'),
      t.shape.map((size, d) => (d === i || d === j ? size : 1)),
    );
    t = sum(where(mask, t, 0), j);
    rest = rest.slice(0, j) + rest.slice(j + 1);
  }
  return { x: t, labels: rest };
}

/** Sums over letters that nobody needs any more. */
function sumOut({ x, labels }: Labelled, needed: string): Labelled {
  const axes = [...labels].flatMap((c, i) => (needed.includes(c) ? [] : [i]));
  return axes.length
    ? { x: sum(x, axes), labels: [...labels].filter((c) => needed.includes(c)).join('') }
    : { x, labels };
}

/** One batched matrix product: letters of both that are still needed are the batch, those that are not are summed. */
function contract(a: Labelled, b: Labelled, later: string, sizes: ReadonlyMap<string, number>): Labelled {
  const left = sumOut(a, b.labels + later),
    right = sumOut(b, a.labels + later);
  const both = [...left.labels].filter((c) => right.labels.includes(c));
  const batch = both.filter((c) => later.includes(c)),
    summed = both.filter((c) => !later.includes(c));
  const rows = [...left.labels].filter((c) => !both.includes(c)),
    cols = [...right.labels].filter((c) => !both.includes(c));
  const order = ({ x, labels }: Labelled, letters: readonly string[]): Tensor =>
    permute(
      x,
      letters.map((c) => labels.indexOf(c)),
    );
  const product = (letters: readonly string[]): number => letters.reduce((n, c) => n * sizes.get(c)!, 1);
  const x = reshape(order(left, [...batch, ...rows, ...summed]), [product(batch), product(rows), product(summed)]);
  const y = reshape(order(right, [...batch, ...summed, ...cols]), [product(batch), product(summed), product(cols)]);
  const letters = [...batch, ...rows, ...cols];
  return {
    x: reshape(
      matmul(x, y),
      letters.map((c) => sizes.get(c)!),
    ),
    labels: letters.join(''),
  };
}
