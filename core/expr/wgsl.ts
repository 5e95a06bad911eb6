// WGSL of expressions: for one element, or for four as a vector. f16 is loaded as f32, computed in f32 and rounded when
// it is stored.

import { isFloat, type DType } from '../tensor/dtype.ts';
import type { Expr } from './expr.ts';
import { topological } from './graph.ts';
import { OPS } from './operators.ts';
import { mathName, wgslMath, type MathName } from './wgslMath.ts';

/** The type that a value of a tensor's type is computed in. */
export function computedType(type: DType): 'f32' | 'i32' | 'u32' | 'bool' {
  return type === 'f16' ? 'f32' : type;
}

/** A type, or a vector of four. */
export function wide(type: string, vec: boolean): string {
  return vec ? `vec4<${type}>` : type;
}

/** Expressions as WGSL. */
export interface Generated {
  /** What depends on no element of the loop that they stand in: values that `input` said are read once. */
  readonly ahead: readonly string[];
  readonly lines: readonly string[];
  /** Names of the values of the outputs. */
  readonly results: readonly string[];
  /** Functions that the lines call, at module scope. */
  readonly declarations: string;
}

/**
 * WGSL of the computation: `let` lines, and the name that holds each output.
 *
 * @param vec computes four elements at once
 * @param input text of an input's value; `once` where it is the same for every element
 * @param scalar text of a number given at run time
 */
export function generate(
  outputs: readonly Expr[],
  vec: boolean,
  input: (node: Expr, math: (name: MathName) => string) => { readonly text: string; readonly once?: boolean },
  scalar: (index: number) => string,
): Generated {
  const ahead: string[] = [];
  const lines: string[] = [];
  const names = new Map<Expr, string>();
  const functions = new Set<MathName>();
  const declared = new Map<string, string>();
  const math = (name: MathName): string => {
    functions.add(name);
    return mathName(name, vec);
  };
  const declare = (name: string, text: (name: string) => string): string => {
    const full = `${name}${vec ? '4' : ''}`;
    declared.set(full, text(full));
    return full;
  };
  for (const node of topological(outputs)) {
    const args = node.args.map((a) => names.get(a)!);
    const t = wide(computedType(node.type), vec);
    const name = `t${names.size}`;
    let to = lines;
    let text: string;
    if (node.kind === 'input') {
      const value = input(node, math);
      text = value.text;
      if (value.once) to = ahead;
    } else if (node.kind === 'scalar') text = `${t}(${scalar(node.value)})`;
    else if (node.kind === 'const') text = literal(node.value, node.type, t, math);
    else if (node.kind === 'cast') text = converted(args[0], node.args[0].type, node.type, vec, math);
    else {
      const type = computedType(node.args.at(-1)!.type);
      text = OPS[node.op!].wgsl(args, { t: wide(type, vec), u: wide('u32', vec), type, math, declare });
    }
    to.push(`let ${name} = ${text};`);
    names.set(node, name);
  }
  const texts = [wgslMath(vec ? [] : functions, vec ? functions : []), ...declared.values()];
  return { ahead, lines, results: outputs.map((o) => names.get(o)!), declarations: texts.filter(Boolean).join('\n') };
}

/** A value of one type as one of another. */
function converted(x: string, from: DType, to: DType, vec: boolean, math: (name: MathName) => string): string {
  const [source, target] = [computedType(from), computedType(to)];
  if (source === target) return x;
  // NaN is true.
  if (target === 'bool') return `!(${x} == ${wide(source, vec)}(0))`;
  if (source === 'f32') return `${math(target === 'i32' ? 'toInt' : 'toUint')}(${x})`;
  return `${wide(target, vec)}(${x})`;
}

function literal(value: number, type: DType, t: string, math: (name: MathName) => string): string {
  if (type === 'bool') return `${t}(${value !== 0})`;
  if (!isFloat(type)) return `${t}(${Math.trunc(value)})`;
  // WGSL refuses infinities and NaN in constant expressions.
  if (!Number.isFinite(Math.fround(value)))
    return `${math('special')}(${Number.isNaN(value) ? '0x7fc00000u' : value > 0 ? '0x7f800000u' : '0xff800000u'})`;
  const rounded = Math.fround(value);
  const text = Object.is(rounded, -0) ? '-0.0' : String(rounded);
  return `${t}(${/[.e]/.test(text) ? text : `${text}.0`})`;
}
