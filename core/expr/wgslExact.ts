// The longer functions of wgslMath.ts, on one element each: what has to be exact in the middle to be right at the end.
//
// Sources: Payne and Hanek (large angles), Sun's fdlibm (pow).

import type { MathFunction } from './wgslTypes.ts';

/** The leading bits of a float, so many that the product of two is exact. */
const head = (x: string): string => `bitcast<f32>(bitcast<u32>(${x}) & 0xfffff000u)`;

export const EXACT: Record<'quarterTurns' | 'pow' | 'remainder', MathFunction> = {
  // Quarter turns in an angle, modulo 4 or more, and what is left, from -π/4 to π/4. Angles beyond 8192 are multiplied
  // with as many bits of 2/π as count.
  quarterTurns: {
    calls: ['mulHi'],
    text: () => `struct Turns { quarter: i32, rest: f32 }
fn mathQuarterTurns(x: f32) -> Turns {
  if (abs(x) <= 8192.0) {
    let j = round(x * 0.636619772);
    return Turns(i32(j), ((x - j * 1.5703125) - j * 4.837512969970703125e-4) - j * 7.54978995489e-8);
  }
  let bits = bitcast<u32>(x);
  let mantissa = (bits << 8u) | 0x80000000u;
  let exponent = ((bits >> 23u) & 0xffu) - 128u;
  const inverse = array<u32, 6>(0x3c439041u, 0xdb629599u, 0xf534ddc0u, 0xfc2757d1u, 0x4e441529u, 0xa2f9836eu);
  var product: array<u32, 7>;
  var carry = 0u;
  for (var k = 0u; k < 6u; k++) {
    let low = inverse[k] * mantissa;
    product[k] = low + carry;
    carry = mathMulHi(inverse[k], mantissa) + select(0u, 1u, product[k] < low);
  }
  product[6] = carry;
  let word = 6u - (exponent >> 5u); let shift = exponent & 31u;
  var high = product[word]; var low = product[word - 1u];
  if (shift != 0u) {
    high = (high << shift) | (low >> (32u - shift));
    low = (low << shift) | (product[word - 2u] >> (32u - shift));
  }
  // Two bits of whole quarters, the others of a fraction; one of a half and more counts from above.
  var quarter = i32(high >> 30u);
  high = (high << 2u) | (low >> 30u); low = low << 2u;
  var sign = 1.0;
  if ((high & 0x80000000u) != 0u) {
    quarter += 1; sign = -1.0;
    low = ~low + 1u; high = ~high + select(0u, 1u, low == 0u);
  }
  let rest = sign * (f32(high) * ${Math.PI / 2 ** 33} + f32(low) * ${Math.PI / 2 ** 65});
  return Turns(select(quarter, -quarter, x < 0.0), select(rest, -rest, x < 0.0));
}`,
  },
  // log2(|x|) in two floats, times y in two floats. C's special cases: x^0 and 1^y are 1 whatever the other is.
  pow: {
    calls: ['special', 'nan', 'expPart', 'scale'],
    each: 2,
    text: () => `fn mathPowFinite(x: f32, y: f32) -> f32 {
  let small = x < 1.17549435e-38;
  let bits = bitcast<u32>(select(x, x * 16777216.0, small));
  let fraction = bits & 0x7fffffu;
  let near1 = fraction <= 0x1cc471u; let near15 = !near1 & (fraction < 0x5db3d7u); let above = !near1 & !near15;
  let n = f32(i32(bits >> 23u) - select(127, 151, small) + select(0, 1, above));
  let place = (fraction | 0x3f800000u) - select(0u, 0x800000u, above);
  let a = bitcast<f32>(place);
  let base = select(1.0, 1.5, near15);
  let u = a - base; let v = 1.0 / (a + base);
  let s = u * v; let sHigh = ${head('s')};
  let tHigh = bitcast<f32>((((place >> 1u) & 0xfffff000u) | 0x20000000u) + 0x400000u + select(0u, 0x200000u, near15));
  let sLow = v * ((u - sHigh * tHigh) - sHigh * (a - (tHigh - base)));
  let q = s * s;
  let r = q * q * (0.6000000238 + q * (0.4285714328 + q * (0.3333333433 + q * (0.2727281153 + q * (0.2306607515 + q * 0.206975013)))))
    + sLow * (sHigh + s);
  let square = sHigh * sHigh;
  let sum = 3.0 + square + r; let sumHigh = ${head('sum')};
  let big = sHigh * sumHigh; let little = sLow * sumHigh + (r - ((sumHigh - 3.0) - square)) * s;
  let both = big + little; let pHigh = ${head('both')};
  let zHigh = 0.9619140625 * pHigh;
  let zLow = -1.1736857402e-4 * pHigh + (little - (pHigh - big)) * 0.96179670095 + select(0.0, 1.56322085e-6, near15);
  let shift = select(0.0, 0.584960938, near15);
  let log = ((zHigh + zLow) + shift) + n; let logHigh = ${head('log')};
  let logLow = zLow - (((logHigh - n) - shift) - zHigh);
  let yHigh = ${head('y')};
  let low = (y - yHigh) * logHigh + y * logLow; let high = yHigh * logHigh;
  let k = round(clamp(high + low, -200.0, 200.0));
  if (high + low >= 129.0) { return mathSpecial(0x7f800000u); }
  if (high + low <= -151.0) { return 0.0; }
  return mathScale(mathExpPart(((high - k) + low) * 0.69314718), i32(k));
}
fn mathPow(x: f32, y: f32) -> f32 {
  if (y == 0.0 || x == 1.0) { return 1.0; }
  let ax = abs(x); let ay = abs(y); let infinity = mathSpecial(0x7f800000u); let none = mathSpecial(0x7fc00000u);
  if (mathNan(x) || mathNan(y)) { return none; }
  let whole = ay >= 16777216.0 || ay == floor(ay);
  let odd = ay < 16777216.0 && whole && (u32(ay) & 1u) == 1u;
  var value: f32;
  if (ay == infinity) {
    if (ax == 1.0) { return 1.0; }
    return select(0.0, infinity, (ax > 1.0) == (y > 0.0));
  }
  if (ax == 0.0 || ax == infinity) { value = select(0.0, infinity, (ax == 0.0) == (y < 0.0)); }
  else if (x < 0.0 && !whole) { return none; }
  else { value = mathPowFinite(ax, y); }
  return select(value, -value, odd && (bitcast<u32>(x) & 0x80000000u) != 0u);
}`,
  },
  // Exact, by long division of the mantissas, 8 bits at a time; then with the sign of the divisor.
  remainder: {
    calls: ['special', 'nan', 'scale'],
    each: 2,
    text: () => `fn mathRemainder(x: f32, y: f32) -> f32 {
  let infinity = 0x7f800000u;
  let a = bitcast<u32>(x) & 0x7fffffffu; let b = bitcast<u32>(y) & 0x7fffffffu;
  if (a >= infinity || b > infinity || b == 0u) { return mathSpecial(0x7fc00000u); }
  var value = x;
  if (a >= b) {
    let ea = max(a >> 23u, 1u); let eb = max(b >> 23u, 1u);
    let divisor = (b & 0x7fffffu) | select(0u, 0x800000u, b >= 0x800000u);
    var rest = ((a & 0x7fffffu) | select(0u, 0x800000u, a >= 0x800000u)) % divisor;
    for (var left = ea - eb; left > 0u; left -= min(left, 8u)) { rest = (rest << min(left, 8u)) % divisor; }
    let size = mathScale(f32(rest), i32(eb) - 150);
    value = select(size, -size, x < 0.0);
  }
  // By bits: adapters may take a subnormal number for 0.
  let bits = bitcast<u32>(value);
  return select(value, value + y, (bits & 0x7fffffffu) != 0u && ((bits ^ bitcast<u32>(y)) >> 31u) != 0u);
}`,
  },
};
