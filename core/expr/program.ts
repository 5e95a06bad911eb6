// Expressions of one kernel over tensors that broadcast. What is derived from a program – its kernels by layout, its
// derivatives, the parts that it is computed in where an adapter binds few buffers – belongs to it, and goes with it.

import type { DType } from '../tensor/dtype.ts';
import { isFloat } from '../tensor/dtype.ts';
import { differentiate } from './differentiate.ts';
import { Expr } from './expr.ts';
import { inputsOf, unify } from './graph.ts';

/** A program that computes some of the outputs of another, from the inputs that these read. */
export interface Part {
  readonly program: Program;
  readonly reads: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/** How gradients of inputs are found from those of the outputs. */
export interface Gradient {
  /** Inputs that get one. */
  readonly wanted: readonly number[];
  /** For each of these: an output of the program, one of its inputs as it is, or nothing. */
  readonly from: readonly ({ readonly output: number } | { readonly input: number } | null)[];
  /**
   * Its inputs are `reads`, where the gradient of output k has the number inputs + k. Null where nothing is to be
   * computed.
   */
  readonly program: Program | null;
  readonly reads: readonly number[];
  /** Inputs of the forward pass that are needed. */
  readonly used: readonly number[];
}

export class Program {
  readonly name: string;
  readonly outputs: readonly Expr[];
  readonly inputs: readonly DType[];
  /** Types of the numbers given at run time. */
  readonly scalars: readonly DType[];
  /** Whether output k overwrites input k. */
  readonly inPlace: boolean;
  private readonly gradients = new Map<number, Gradient>();
  private readonly parts = new Map<number, readonly Part[]>();
  private twin: Program | null = null;

  constructor(
    name: string,
    outputs: readonly Expr[],
    inputs: readonly DType[],
    scalars: readonly DType[] = [],
    inPlace = false,
  ) {
    this.name = name;
    this.outputs = unify(outputs);
    this.inputs = inputs;
    this.scalars = scalars;
    this.inPlace = inPlace;
  }

  /** The same program, writing new tensors. */
  get outOfPlace(): Program {
    if (!this.inPlace) return this;
    return (this.twin ??= new Program(this.name, this.outputs, this.inputs, this.scalars));
  }

  /** The derivative for the inputs of a set, given by a number with bit i for input i. */
  gradient(wanted: number): Gradient {
    let found = this.gradients.get(wanted);
    if (!found) this.gradients.set(wanted, (found = this.derive(wanted)));
    return found;
  }

  private derive(set: number): Gradient {
    const count = this.inputs.length;
    const wanted = this.inputs.flatMap((_, i) => (hasBit(set, i) ? [i] : []));
    const seedTypes = this.outputs.map((o): DType => (isFloat(o.type) ? o.type : 'f32'));
    const exprs = differentiate(
      this.outputs,
      seedTypes.map((type, k) => Expr.input(count + k, type)),
      wanted,
    );
    const computed: Expr[] = [];
    const from = exprs.map((e) => {
      if (!e) return null;
      if (e.kind === 'input') return { input: e.value };
      return { output: computed.push(e) - 1 };
    });
    const found = inputsOf(computed);
    // A constant derivative reads nothing, but takes its shape from somewhere.
    const reads = found.length || !computed.length ? found : [count];
    const types = [...this.inputs, ...seedTypes];
    const program = computed.length
      ? new Program(
          `${this.name}Backward`,
          unify(computed, reads),
          reads.map((i) => types[i]),
          this.scalars,
        )
      : null;
    const used = inputsOf(exprs.filter((e) => e !== null)).filter((i) => i < count);
    return { wanted, from, program, reads, used };
  }

  /**
   * Programs that compute all outputs and bind at most `limit` tensors each; null where a single output needs more,
   * whose number `tooMany` is told.
   */
  within(limit: number, tooMany: (tensors: number) => never): readonly Part[] {
    const known = this.parts.get(limit);
    if (known) return known;
    const parts: Part[] = [];
    for (let begin = 0, end = 0; begin < this.outputs.length; begin = end) {
      let reads: number[] = [];
      for (end = begin; end < this.outputs.length; end++) {
        const more = inputsOf(this.outputs.slice(begin, end + 1));
        if (more.length + end + 1 - begin > limit) break;
        reads = more;
      }
      if (end === begin) tooMany(inputsOf([this.outputs[begin]]).length);
      const program = new Program(
        this.name,
        unify(this.outputs.slice(begin, end), reads),
        reads.map((i) => this.inputs[i]),
        this.scalars,
      );
      parts.push({ program, reads, begin, end });
    }
    this.parts.set(limit, parts);
    return parts;
  }
}

/** Whether a set of small numbers, kept as bits of a number that may be larger than 32 of them, holds one. */
function hasBit(set: number, i: number): boolean {
  return Math.floor(set / 2 ** i) % 2 === 1;
}

const copies = new Map<DType, Map<DType, Program>>();

/** Copies a tensor to one of another type. */
export function copyProgram(from: DType, to: DType): Program {
  let row = copies.get(from);
  if (!row) copies.set(from, (row = new Map()));
  let program = row.get(to);
  if (!program) row.set(to, (program = new Program('copy', [Expr.input(0, from).cast(to)], [from])));
  return program;
}
