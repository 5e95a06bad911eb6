// The error function in float64: its series near zero, a continued fraction beyond.

/** 1 - erf(x). */
export function erfc(x: number): number {
  const a = Math.abs(x);
  if (a < 2.5) return 1 - series(x);
  let fraction = 0;
  for (let n = 200; n >= 1; n--) fraction = n / 2 / (a + fraction);
  const tail = Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction);
  return x < 0 ? 2 - tail : tail;
}

export function erf(x: number): number {
  return Math.abs(x) < 2.5 ? series(x) : 1 - erfc(x);
}

function series(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 120; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (sum * 2) / Math.sqrt(Math.PI);
}
