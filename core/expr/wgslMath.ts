// Functions that WGSL lacks, or whose built-in form isn't good enough: WGSL grants sin, cos, tanh, and log near 1 an
// absolute error only, exp and pow one that grows with the argument, and leaves open what becomes of NaN. Here each is
// within a few units in the last place in f32, and NaN goes through. Kernels of any kind take their text from here.

import { FUNCTIONS } from './wgslFunctions.ts';
import type { Form, MathName } from './wgslTypes.ts';

export type { MathName } from './wgslTypes.ts';

const SCALAR: Form = { f: 'f32', u: 'u32', i: 'i32', b: 'bool', s: '' };
const VECTOR: Form = { f: 'vec4f', u: 'vec4u', i: 'vec4i', b: 'vec4<bool>', s: '4' };

const upper = (name: string): string => name[0].toUpperCase() + name.slice(1);

/** What WGSL calls a function, for one element or for four. */
export function mathName(name: MathName, four = false): string {
  return `math${upper(name)}${four ? '4' : ''}`;
}

/**
 * WGSL declarations of functions and of what they call, each once.
 *
 * @param names functions of one element
 * @param fours functions of four elements
 */
export function wgslMath(names: Iterable<MathName>, fours: Iterable<MathName> = []): string {
  const texts = new Map<string, string>();
  const add = (name: MathName, four: boolean): void => {
    const { calls = [], text, each } = FUNCTIONS[name];
    const key = mathName(name, four);
    if (texts.has(key)) return;
    texts.set(key, '');
    if (four && each) {
      add(name, false);
      const args = ['x', 'y'].slice(0, each);
      const parts = ['x', 'y', 'z', 'w'].map((c) => `${mathName(name)}(${args.map((a) => `${a}.${c}`).join(', ')})`);
      texts.set(
        key,
        `fn ${key}(${args.map((a) => `${a}: vec4f`).join(', ')}) -> vec4f { return vec4f(${parts.join(', ')}); }`,
      );
      return;
    }
    for (const call of calls) add(call, four);
    texts.set(key, text(four ? VECTOR : SCALAR));
  };
  for (const name of names) add(name, false);
  for (const name of fours) add(name, true);
  return [...texts.values()].join('\n');
}
