// Damages bytes as disks, cut transfers and ill will do: a function of a seed.

import type { HashStream } from '../../models/data/hash.ts';

const NASTY = [
  'null',
  '-1',
  '1e308',
  '1e400',
  '"x"',
  '[]',
  '{}',
  'true',
  '9007199254740993',
  '"\\u001b]0;x\\u0007"',
  '0.5',
];

/** A damaged copy of `bytes`. */
export function mutate(bytes: Uint8Array, random: HashStream): Uint8Array {
  const copy = Buffer.from(bytes);
  if (copy.length === 0) return Buffer.from(NASTY[random.below(NASTY.length)]);
  const at = random.below(copy.length);
  switch (random.below(7)) {
    case 0: // bits
      for (let i = 0; i < 1 + random.below(8); i++) copy[random.below(copy.length)] ^= 1 << random.below(8);
      return copy;
    case 1: // the end is missing
      return copy.subarray(0, at);
    case 2: // a part is missing
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + random.below(64))]);
    case 3: // a part is there twice
      return Buffer.concat([copy.subarray(0, at), copy.subarray(Math.max(0, at - 32)), copy.subarray(at)]);
    case 4: // zeros, as a disk leaves them after a power cut
      return copy.fill(0, at, Math.min(copy.length, at + 1 + random.below(4096)));
    case 5: // the first bytes, where lengths are
      copy[random.below(Math.min(16, copy.length))] = random.below(256);
      return copy;
    default: {
      // A value of JSON becomes another.
      const text = copy.toString('latin1');
      const values = [...text.matchAll(/(?<=[:[,]\s*)(?:-?[\d.]+(?:e[+-]?\d+)?|"[^"\\]*"|true|false|null)/gi)];
      if (values.length === 0) return copy.subarray(0, at);
      const { index, 0: value } = values[random.below(values.length)];
      return Buffer.from(
        text.slice(0, index) + NASTY[random.below(NASTY.length)] + text.slice(index + value.length),
        'latin1',
      );
    }
  }
}
