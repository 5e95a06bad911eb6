// The hash of the reference values' README: weights that anybody can make.

/** Uniform in [-1, 1), from element and tensor number. */
export function hashValue(j: number, k: number, salt: number): number {
  let h = (Math.imul(j, 0x9e3779b1) + Math.imul(k, 0x85ebca77) + salt) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x21f0aaad);
  h = Math.imul(h ^ (h >>> 15), 0x735a2d97);
  h = (h ^ (h >>> 15)) >>> 0;
  return (h / 4294967296) * 2 - 1;
}
