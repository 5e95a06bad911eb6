// The texts behind wgslMath.ts.
//
// Sources: S. Moshier's Cephes (log, tanh, the reduction of angles), W. H. Press et al., Numerical Recipes, §6.2
// (erfc).

import { EXACT } from './wgslExact.ts';
import type { MathFunction, MathName } from './wgslTypes.ts';

/** An extremum that gives NaN where either argument is. */
const extremum =
  (name: 'min' | 'max'): MathFunction['text'] =>
  ({ f, s }) =>
    `fn math${name === 'min' ? 'Minimum' : 'Maximum'}${s}(x: ${f}, y: ${f}) -> ${f} {
  return select(select(${name}(x, y), y, mathNan${s}(y)), x, mathNan${s}(x));
}`;

export const FUNCTIONS: Record<MathName, MathFunction> = {
  ...EXACT,
  // WGSL refuses infinities and NaN in constant expressions; a variable is not constant.
  special: {
    text: ({ f, u, s }) => `fn mathSpecial${s}(bits: u32) -> ${f} { var b = ${u}(bits); return bitcast<${f}>(b); }`,
  },
  // Compilers fold x != x to false.
  nan: {
    text: ({ f, u, b, s }) =>
      `fn mathNan${s}(x: ${f}) -> ${b} { return (bitcast<${u}>(x) & ${u}(0x7fffffffu)) > ${u}(0x7f800000u); }`,
  },
  notFinite: {
    text: ({ f, u, b, s }) =>
      `fn mathNotFinite${s}(x: ${f}) -> ${b} { return (bitcast<${u}>(x) & ${u}(0x7f800000u)) == ${u}(0x7f800000u); }`,
  },
  // The upper half of a product of 64 bits.
  mulHi: {
    text: ({ u, s }) => `fn mathMulHi${s}(a: ${u}, b: ${u}) -> ${u} {
  let low = ${u}(0xffffu); let shift = ${u}(16u);
  let al = a & low; let ah = a >> shift; let bl = b & low; let bh = b >> shift;
  let m1 = ah * bl + ((al * bl) >> shift); let m2 = al * bh + (m1 & low);
  return ah * bh + (m1 >> shift) + (m2 >> shift);
}`,
  },
  // e^r for |r| up to ln(2)/2.
  expPart: {
    text: ({ f, s }) => `fn mathExpPart${s}(r: ${f}) -> ${f} {
  return 1.0 + (r + r * r * (0.50000001201 + r * (0.16666665459 + r * (0.041665795894 + r * (8.3334519073e-3 + r * (1.3981999507e-3
    + r * 1.98756915e-4))))));
}`,
  },
  // x · 2^k by two factors, neither of which overflows.
  scale: {
    text: ({ f, u, i, s }) => `fn mathScale${s}(x: ${f}, k: ${i}) -> ${f} {
  let half = k >> ${u}(1u); let shift = ${u}(23u);
  return x * bitcast<${f}>((half + 127) << shift) * bitcast<${f}>((k - half + 127) << shift);
}`,
  },
  // The product with log2(e) is rounded, which the result would show as a relative error of its size: what was lost is
  // put back. exp2 is good to the last places on every adapter seen.
  exp: {
    text: ({ f, u, s }) => `fn mathExp${s}(x: ${f}) -> ${f} {
  let t = x * 1.44269504;
  let h = bitcast<${f}>(bitcast<${u}>(x) & ${u}(0xfffff000u));
  let lost = ((h * 1.4423828125 - t) + h * 3.12228e-4) + (x - h) * 1.44269504;
  return exp2(t) * (1.0 + 0.693147 * clamp(lost, ${f}(-1e-4), ${f}(1e-4)));
}`,
  },
  // log(1 + m) for m from √½ - 1 to √2 - 1.
  log1pPart: {
    text: ({ f, s }) => `fn mathLog1pPart${s}(m: ${f}) -> ${f} {
  let z = m * m;
  return m + (m * z * (0.33333331174 + m * (-0.24999993993 + m * (0.20000714765 + m * (-0.16668057665 + m * (0.14249322787
    + m * (-0.12420140846 + m * (0.1167699874 + m * (-0.1151461031 + m * 0.070376836292)))))))) - 0.5 * z);
}`,
  },
  log: {
    calls: ['special', 'nan', 'log1pPart'],
    text: ({ f, u, i, s }) => `fn mathLog${s}(x: ${f}) -> ${f} {
  // Numbers below the least normal one have no leading bit.
  let small = x < ${f}(1.17549435e-38);
  let bits = bitcast<${u}>(select(x, x * 16777216.0, small));
  let half = bitcast<${f}>((bits & ${u}(0x7fffffu)) | ${u}(0x3f000000u));
  let low = half < ${f}(0.70710678);
  let k = ${f}(${i}(bits >> ${u}(23u)) - select(${i}(126), ${i}(150), small) - select(${i}(0), ${i}(1), low));
  let m = select(half, half + half, low) - 1.0;
  let value = (mathLog1pPart${s}(m) - k * 2.12194440e-4) + k * 0.693359375;
  let kept = mathNan${s}(x) | (x == mathSpecial${s}(0x7f800000u));
  return select(select(select(value, mathSpecial${s}(0x7fc00000u), x < ${f}(0.0)), mathSpecial${s}(0xff800000u), x == ${f}(0.0)), x, kept);
}`,
  },
  log1p: {
    calls: ['log', 'log1pPart'],
    text: ({ f, s }) => `fn mathLog1p${s}(x: ${f}) -> ${f} {
  return select(mathLog${s}(x + 1.0), mathLog1pPart${s}(x), (x > ${f}(-0.29)) & (x < ${f}(0.41)));
}`,
  },
  // log(1 + e) for e in [0, 1], by the polynomial of least relative error, 3e-8: for a softplus that has to be fast.
  log1pUnit: {
    text: ({ f, s }) => `fn mathLog1pUnit${s}(e: ${f}) -> ${f} {
  return e * (0.99999994 + e * (-0.49999493 + e * (0.33319098 + e * (-0.24842982 + e * (0.19106007 + e * (-0.13663246
    + e * (0.07822596 + e * (-0.02950524 + e * 0.005232694))))))));
}`,
  },
  // By tanh(x/2), which is accurate near zero.
  expm1: {
    calls: ['exp', 'tanhPart'],
    text: ({ f, s }) => `fn mathExpm1${s}(x: ${f}) -> ${f} {
  let half = mathTanhPart${s}(0.5 * x);
  return select(mathExp${s}(x) - 1.0, 2.0 * half / (1.0 - half), abs(x) < ${f}(1.25));
}`,
  },
  // Sine and cosine of \`quarter\` quarter turns and r, |r| up to π/4.
  sinCosPart: {
    text: ({ f, i, s }) => `fn mathSinCosPart${s}(quarter: ${i}, r: ${f}) -> array<${f}, 2> {
  let q = r * r;
  let sine = r * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362880.0)))));
  let cosine = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0))));
  let odd = (quarter & ${i}(1)) == ${i}(1);
  let a = select(sine, cosine, odd); let b = select(cosine, sine, odd);
  return array(select(a, -a, (quarter & ${i}(2)) != ${i}(0)), select(b, -b, ((quarter + 1) & ${i}(2)) != ${i}(0)));
}`,
  },
  sin: {
    calls: ['special', 'quarterTurns', 'sinCosPart'],
    each: 1,
    text: () => `fn mathSin(x: f32) -> f32 {
  if ((bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u) { return mathSpecial(0x7fc00000u); }
  let turns = mathQuarterTurns(x);
  return mathSinCosPart(turns.quarter, turns.rest)[0];
}`,
  },
  cos: {
    calls: ['special', 'quarterTurns', 'sinCosPart'],
    each: 1,
    text: () => `fn mathCos(x: f32) -> f32 {
  if ((bitcast<u32>(x) & 0x7f800000u) == 0x7f800000u) { return mathSpecial(0x7fc00000u); }
  let turns = mathQuarterTurns(x);
  return mathSinCosPart(turns.quarter, turns.rest)[1];
}`,
  },
  // For |x| up to 0.625.
  tanhPart: {
    text: ({ f, s }) => `fn mathTanhPart${s}(x: ${f}) -> ${f} {
  let q = x * x;
  return x + x * q * (-0.333332819422 + q * (0.133314422036 + q * (-0.0537397155531 + q * (0.0206390887954 + q * -5.70498872745e-3))));
}`,
  },
  tanh: {
    calls: ['exp', 'tanhPart'],
    text: ({ f, s }) => `fn mathTanh${s}(x: ${f}) -> ${f} {
  let far = 1.0 - 2.0 / (mathExp${s}(2.0 * abs(x)) + 1.0);
  return select(select(far, -far, x < ${f}(0.0)), mathTanhPart${s}(x), abs(x) < ${f}(0.625));
}`,
  },
  // The built-in exp: its relative error is bounded (3 + 2 |x| units in the last place), and gates are everywhere.
  sigmoid: {
    text: ({ f, s }) => `fn mathSigmoid${s}(x: ${f}) -> ${f} { return 1.0 / (1.0 + exp(-x)); }`,
  },
  // For hand-tuned kernels: the built-in exp, kept below overflow, and NaN may be lost.
  quickSigmoid: {
    text: ({ f, s }) => `fn mathQuickSigmoid${s}(x: ${f}) -> ${f} { return 1.0 / (1.0 + exp(min(-x, ${f}(87.0)))); }`,
  },
  // PyTorch's: x above the threshold 20.
  softplus: {
    calls: ['exp', 'log1pUnit'],
    text: ({ f, s }) => `fn mathSoftplus${s}(x: ${f}) -> ${f} {
  return select(max(x, ${f}(0.0)) + mathLog1pUnit${s}(mathExp${s}(-abs(x))), x, x > ${f}(20.0));
}`,
  },
  // Maclaurin's series, for |x| up to 1.
  erfPart: {
    text: ({ f, s }) => `fn mathErfPart${s}(x: ${f}) -> ${f} {
  let q = x * x;
  return x * ${2 / Math.sqrt(Math.PI)} * (1.0 + q * (-1.0 / 3.0 + q * (0.1 + q * (-1.0 / 42.0 + q * (1.0 / 216.0 + q * (-1.0 / 1320.0
    + q * (1.0 / 9360.0 + q * (-1.0 / 75600.0 + q * (1.0 / 685440.0 + q * (-1.0 / 6894720.0))))))))));
}`,
  },
  // The square is taken apart: its rounding error would be the result's relative one.
  erfc: {
    calls: ['exp', 'erfPart', 'nan'],
    text: ({ f, u, s }) => `fn mathErfc${s}(x: ${f}) -> ${f} {
  let a = select(abs(x), ${f}(100.0), abs(x) > ${f}(100.0));
  let r = 1.0 / (1.0 + 0.5 * a);
  let start = bitcast<${f}>(bitcast<${u}>(a) & ${u}(0xfffff000u));
  let tail = r * mathExp${s}(-start * start) * mathExp${s}((start - a) * (start + a) - 1.26551223
    + r * (1.00002368 + r * (0.37409196 + r * (0.09678418
    + r * (-0.18628806 + r * (0.27886807 + r * (-1.13520398 + r * (1.48851587 + r * (-0.82215223 + r * 0.17087277)))))))));
  let value = select(select(tail, 2.0 - tail, x < ${f}(0.0)), 1.0 - mathErfPart${s}(x), a < ${f}(0.5));
  return select(value, x, mathNan${s}(x));
}`,
  },
  erf: {
    calls: ['erfPart', 'erfc', 'nan'],
    text: ({ f, s }) => `fn mathErf${s}(x: ${f}) -> ${f} {
  let value = select(1.0 - mathErfc${s}(x), mathErfPart${s}(x), abs(x) < ${f}(1.0));
  return select(value, x, mathNan${s}(x));
}`,
  },
  minimum: { calls: ['nan'], text: extremum('min') },
  maximum: { calls: ['nan'], text: extremum('max') },
  // A sum that keeps what each addition rounds away (Kahan): its value is `value - lost`. Compilers would simplify that
  // to nothing, were it not for `zero`, a 0 that they can't know: p.width >> 31u of some width.
  accumulate: {
    text: ({ f, u, s }) => `struct Sum${s} { value: ${f}, lost: ${f} }
fn mathAccumulate${s}(sum: Sum${s}, x: ${f}, zero: u32) -> Sum${s} {
  let term = x - sum.lost;
  let next = bitcast<${f}>(bitcast<${u}>(sum.value + term) | ${u}(zero));
  return Sum${s}(next, select((next - sum.value) - term, ${f}(0.0), abs(next) > ${f}(3.4028234e38)));
}`,
  },
  // Towards zero, the nearest where there is none, 0 of NaN.
  toInt: {
    calls: ['nan'],
    text: ({ f, i, s }) => `fn mathToInt${s}(x: ${f}) -> ${i} {
  let inside = ${i}(clamp(x, ${f}(-2147483648.0), ${f}(2147483520.0)));
  return select(select(inside, ${i}(2147483647), x >= ${f}(2147483648.0)), ${i}(0), mathNan${s}(x));
}`,
  },
  toUint: {
    calls: ['nan'],
    text: ({ f, u, s }) => `fn mathToUint${s}(x: ${f}) -> ${u} {
  let inside = ${u}(clamp(x, ${f}(0.0), ${f}(4294967040.0)));
  return select(select(inside, ${u}(4294967295u), x >= ${f}(4294967296.0)), ${u}(0u), mathNan${s}(x));
}`,
  },
};
