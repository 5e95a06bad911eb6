// Expressions as operations on tensors: `fuse` makes one of a user's expression, `elementwise` the built-in ones,
// `fuseInPlace` one that overwrites its arguments. The derivative is another program, run the same way.

import { isGradEnabled } from '../autograd/gradMode.ts';
import { defineOp } from '../autograd/defineOp.ts';
import { GradError, ShapeError } from '../errors.ts';
import { checkOperands, checkSameDevice } from '../tensor/arguments.ts';
import { isFloat, promote, type DType } from '../tensor/dtype.ts';
import { broadcastShapes, sameShape, show } from '../tensor/shape.ts';
import type { Tensor } from '../tensor.ts';
import { Expr, type ExprLike } from './expr.ts';
import { runGrid } from './grid.ts';
import { copyProgram, Program, type Gradient } from './program.ts';

/** How a program is run: with the numbers given at run time. */
interface Call {
  readonly program: Program;
  readonly scalars: readonly number[];
}

const applyOp = defineOp({
  name: ({ program }: Call) => program.name,
  forward({ tensors }: { tensors: readonly Tensor[] }, { program, scalars }: Call, needs) {
    let wanted = 0;
    needs.tensors.forEach((need, i) => {
      if (need) wanted += 2 ** i;
    });
    const out = runGrid(program, tensors, scalars, tensors[0].device);
    if (!wanted) return { out, saved: null };
    const used = program.gradient(wanted).used.map((i) => tensors[i]);
    return { out, saved: { program, wanted, used, scalars, shapes: tensors.map((t) => t.shape) } };
  },
  backward(grads, saved) {
    const { program, wanted, used, scalars, shapes } = saved!;
    const gradient = program.gradient(wanted);
    const count = program.inputs.length;
    const sources = new Map<number, Tensor>(gradient.used.map((i, k) => [i, used[k]]));
    const some = grads.find((g) => g !== null)!;
    program.outputs.forEach((o, k) => {
      const g = grads[k] ?? (isFloat(o.type) ? some.zerosLike() : null);
      if (g) sources.set(count + k, g);
    });
    const tensors = new Array<Tensor | null>(count).fill(null);
    for (const [i, g] of gradientsFrom(gradient, sources, scalars)) tensors[i] = g.sumToSize(shapes[i]);
    return { tensors };
  },
});

/** Gradients by the numbers of their inputs, before what broadcasting repeated is summed. */
function gradientsFrom(
  { wanted, from, program, reads }: Gradient,
  sources: ReadonlyMap<number, Tensor>,
  scalars: readonly number[],
): [number, Tensor][] {
  const tensors = program ? reads.map((i, k) => sources.get(i)!.cast(program.inputs[k])) : [];
  const computed = program ? applyOp({ tensors }, { program, scalars }) : [];
  return wanted.flatMap((input, k): [number, Tensor][] => {
    const place = from[k];
    return place ? [[input, 'input' in place ? sources.get(place.input)! : computed[place.output]]] : [];
  });
}

/** Programs of a function by the types of its operands. */
class Programs {
  private readonly known = new Map<number | string, Program>();

  /** @param kinds a number below 16 for each operand */
  get(kinds: readonly number[], make: () => Program): Program {
    let key: number | string = 1;
    if (kinds.length > 12) key = kinds.join();
    else for (const kind of kinds) key = (key as number) * 16 + kind;
    let program = this.known.get(key);
    if (!program) this.known.set(key, (program = make()));
    return program;
  }
}

const TYPES: readonly DType[] = ['f32', 'f16', 'i32', 'u32', 'bool'];
const ofType: Readonly<Record<DType, number>> = { f32: 0, f16: 1, i32: 2, u32: 3, bool: 4 };
/** Added to the number of a type where a number has it, not a tensor. */
const NUMBER = 8;

const asExpr = (e: ExprLike): Expr => (e instanceof Expr ? e : Expr.constant(Number(e)));

/**
 * Makes one differentiable kernel of an expression: `fuse((x, y, z) => x.silu().mul(y).add(z))`. Tensors broadcast; the
 * result's type is that of the expression. With several expressions it gives several tensors. A number in the
 * expression is part of the kernel: what changes from call to call is better a tensor of one element.
 *
 * @throws LimitError when an expression reads more tensors than the adapter binds (7 everywhere)
 */
export function fuse(fn: (...x: Expr[]) => ExprLike, name?: string): (...tensors: Tensor[]) => Tensor;
export function fuse(fn: (...x: Expr[]) => readonly ExprLike[], name?: string): (...tensors: Tensor[]) => Tensor[];
export function fuse(
  fn: (...x: Expr[]) => ExprLike | readonly ExprLike[],
  name = 'fuse',
): (...tensors: Tensor[]) => Tensor | Tensor[] {
  const programs = new Programs();
  let many = false;
  return (...tensors) => {
    checkOperands(name, tensors, { numbers: false });
    const program = programs.get(
      tensors.map((t) => ofType[t.dtype]),
      () => {
        const result = fn(...tensors.map((t, i) => Expr.input(i, t.dtype)));
        many = Array.isArray(result);
        const outputs = many ? (result as readonly ExprLike[]) : [result as ExprLike];
        return new Program(
          name,
          outputs.map(asExpr),
          tensors.map((t) => t.dtype),
        );
      },
    );
    const results = applyOp({ tensors }, { program, scalars: [] });
    return many ? results : results[0];
  };
}

/**
 * Like `fuse`, but result k overwrites tensor k, in the same dispatch: an optimizer's update. Results are cast to the
 * types of what they overwrite; the other tensors broadcast to its shape. Not recorded.
 *
 * @throws GradError while recording, if a tensor needs a gradient
 * @throws ShapeError where the tensors to be overwritten differ in shape, or another does not broadcast to theirs
 */
export function fuseInPlace(
  fn: (...x: Expr[]) => ExprLike | readonly ExprLike[],
  name = 'fuseInPlace',
): (...tensors: Tensor[]) => void {
  const programs = new Programs();
  return (...tensors) => {
    checkOperands(name, tensors, { numbers: false });
    checkSameDevice(name, tensors);
    if (isGradEnabled() && tensors.some((t) => t.requiresGrad))
      throw new GradError(name, 'Writing in place is not differentiable', {
        expected: 'tensors that need no gradient',
        remedy: 'use noGrad() or detach()',
      });
    const program = programs.get(
      tensors.map((t) => ofType[t.dtype]),
      () => {
        const types = tensors.map((t) => t.dtype);
        const result = fn(...types.map((type, i) => Expr.input(i, type)));
        const outputs = (Array.isArray(result) ? (result as readonly ExprLike[]) : [result as ExprLike]).map(asExpr);
        return new Program(
          name,
          outputs.map((o, k) => o.cast(types[k])),
          types,
          [],
          true,
        );
      },
    );
    const [{ shape, device }] = tensors;
    const written = program.outputs.length;
    tensors.forEach((t, i) => {
      if (!sameShape(i < written ? t.shape : broadcastShapes(name, shape, t.shape), shape))
        throw new ShapeError(name, `Tensor ${i} has shape ${show(t.shape)}`, {
          expected: `${show(shape)}, as what is overwritten`,
        });
    });
    runGrid(program, tensors, [], device);
  };
}

/** What numbers beside tensors become: their values, and the types in which they are given. */
export type NumberRule = (value: number, position: number, tensors: DType) => { value: number; type: DType };

/** An operation of tensors and numbers. Numbers are given at run time: a new one needs no new pipeline. */
export function elementwise(
  name: string,
  fn: (...x: Expr[]) => Expr,
  rule: NumberRule,
): (...operands: (Tensor | number)[]) => Tensor {
  const programs = new Programs();
  return (...operands) => {
    checkOperands(name, operands, { numbers: true });
    const tensors: Tensor[] = [];
    const scalars: number[] = [];
    const kinds: number[] = [];
    let common: DType | null = null;
    for (const o of operands) if (typeof o !== 'number') common = common === null ? o.dtype : promote(common, o.dtype);
    if (common === null) throw new ShapeError(name, 'No operand is a tensor', { expected: 'at least one' });
    for (let i = 0; i < operands.length; i++) {
      const o = operands[i];
      if (typeof o === 'number') {
        const { value, type } = rule(o, i, common);
        scalars.push(value);
        kinds.push(NUMBER + ofType[type]);
      } else {
        tensors.push(o);
        kinds.push(ofType[o.dtype]);
      }
    }
    const program = programs.get(kinds, () => {
      const inputs: DType[] = [];
      const types: DType[] = [];
      const args = kinds.map((kind) => {
        const type = TYPES[kind % NUMBER];
        return kind < NUMBER ? Expr.input(inputs.push(type) - 1, type) : Expr.scalar(types.push(type) - 1, type);
      });
      return new Program(name, [fn(...args)], inputs, types);
    });
    return applyOp({ tensors }, { program, scalars })[0];
  };
}

/** Writes a tensor into a view, broadcast and cast. */
export function copyInto(view: Tensor, source: Tensor): void {
  if (!sameShape(broadcastShapes('copy_', view.shape, source.shape), view.shape)) {
    throw new ShapeError('copy_', `A tensor of shape ${show(source.shape)} doesn't fit into shape ${show(view.shape)}`);
  }
  // A kernel can't read the memory that it writes.
  const same = source.storage === view.storage;
  const from = same ? runGrid(copyProgram(source.dtype, source.dtype), [source], [], view.device)[0] : source;
  runGrid(copyProgram(from.dtype, view.dtype), [from], [], view.device, [view]);
  if (from !== source) from.dispose();
}
