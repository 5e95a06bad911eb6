// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a bijection of a 128-bit
// counter under a 64-bit key. A seed and a position give the same bits on every machine.

import { wgslMath } from '../expr/wgslMath.ts';

const M0 = 0xd2511f53,
  M1 = 0xcd9e8d57,
  W0 = 0x9e3779b9,
  W1 = 0xbb67ae85;

/** Four u32 of a counter (four u32) and a key (two u32). */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const p0 = mulHi(M0, c0),
      p1 = mulHi(M1, c2);
    [c0, c1, c2, c3] = [(p1 ^ c1 ^ k0) >>> 0, Math.imul(M1, c2) >>> 0, (p0 ^ c3 ^ k1) >>> 0, Math.imul(M0, c0) >>> 0];
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

function mulHi(a: number, b: number): number {
  return Number((BigInt(a) * BigInt(b)) >> 32n);
}

/** The same in WGSL: `philox(counter: vec4u, key: vec2u) -> vec4u`. */
export const PHILOX_WGSL = `${wgslMath(['mulHi'])}
fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter; var k = key;
  for (var i = 0; i < 10; i++) {
    c = vec4u(mathMulHi(${M1}u, c.z) ^ c.y ^ k.x, ${M1}u * c.z, mathMulHi(${M0}u, c.x) ^ c.w ^ k.y, ${M0}u * c.x);
    k += vec2u(${W0}u, ${W1}u);
  }
  return c;
}`;
