// Random numbers for the host side of the data: which image comes when, and what a drawn shape looks like. They are
// counter-based, in plain 32-bit integer arithmetic: a position always gives the same number, on every machine.

/**
 * A well-mixed 32-bit number from a 32-bit one; a bijection (the two-multiply xorshift scheme found by C. Wellons' hash
 * prospector).
 */
export function mix32(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

/** A 32-bit number from any count of integers. Those beyond 32 bits count with all their 53 bits. */
export function hash32(...keys: readonly number[]): number {
  let h = 0x9e3779b9;
  for (const key of keys) {
    h = mix32(h + (key | 0));
    const high = Math.floor(key / 4294967296);
    if (high !== 0 && high !== -1) h = mix32(h + (high | 0) + 0x85ebca77);
  }
  return h;
}

/** A stream of random numbers that is a function of its keys alone. */
export class HashStream {
  private readonly key: number;
  private counter = 0;

  constructor(...keys: readonly number[]) {
    this.key = hash32(...keys);
  }

  /** Uniform integer in [0, 2^32). */
  next(): number {
    return mix32(mix32(this.counter++ + 0x9e3779b9) ^ this.key);
  }

  /** Uniform number in [low, high). */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.next() / 4294967296);
  }

  /** Uniform integer in [0, n), n <= 2^32, without bias: numbers of the incomplete last block of n are drawn again. */
  below(n: number): number {
    const limit = 4294967296 - (4294967296 % n);
    for (;;) {
      const r = this.next();
      if (r < limit) return r % n;
    }
  }
}
