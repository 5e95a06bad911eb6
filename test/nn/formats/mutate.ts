// Seeded damage to files, for tests that no damaged file ends a reader in anything but its own error.

import * as assert from 'uvu/assert';
import { FormatError } from '../../../core/errors.ts';

/** Whole numbers below `n`, the same in every run. */
export function randomIntegers(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/** Bytes and numbers at which readers go wrong. */
const EXTREMES = [0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x2e, 0x28, 0x7d, 0x5d, 0x5b, 0x22, 0x30, 0x39, 0x2d];

/**
 * `file` with one to four places damaged: bytes changed, left out, put in, repeated, moved from elsewhere, or the end
 * cut off.
 */
export function mutate(file: Uint8Array, random: (n: number) => number): Uint8Array {
  let bytes = Array.from(file);
  for (let changes = 1 + random(4); changes > 0; changes--) {
    const at = random(bytes.length),
      length = 1 + random(random(4) === 0 ? 64 : 8);
    switch (random(8)) {
      case 0:
        bytes[at] ^= 1 << random(8);
        break;
      case 1:
        bytes[at] = EXTREMES[random(EXTREMES.length)];
        break;
      case 2:
        for (let i = at; i < Math.min(bytes.length, at + length); i++) bytes[i] = random(256);
        break;
      case 3:
        bytes.splice(at, length);
        break;
      case 4:
        bytes.splice(at, 0, ...Array.from({ length }, () => random(256)));
        break;
      case 5:
        bytes.splice(at, 0, ...bytes.slice(at, at + length));
        break;
      case 6:
        bytes.splice(at, length, ...bytes.slice(random(bytes.length)).slice(0, length));
        break;
      default:
        if (random(4) === 0) bytes = bytes.slice(0, at);
        else bytes.fill(EXTREMES[random(6)], at, at + length);
    }
    if (bytes.length === 0) break;
  }
  return Uint8Array.from(bytes);
}

/**
 * Reads `count` damaged copies of `file`. Each must be refused with a FormatError of a message of reasonable length, or
 * give what `read` accepts, within two seconds of the processor, six on a slow one, and 300 MB.
 */
export async function fuzz(
  file: Uint8Array,
  count: number,
  seed: number,
  read: (damaged: Uint8Array) => void | Promise<void>,
): Promise<{ refused: number; read: number }> {
  const random = randomIntegers(seed);
  const ends = { refused: 0, read: 0 };
  const peak = process.resourceUsage().maxRSS;
  for (let i = 0; i < count; i++) {
    const damaged = mutate(file, random);
    const cpu = process.cpuUsage();
    try {
      await read(damaged);
      ends.read++;
    } catch (error) {
      if (!(error instanceof FormatError) || error.message.length > 1000)
        throw new Error(`mutation ${i} of seed ${seed} ended in ${(error as Error).stack}`, { cause: error });
      ends.refused++;
    }
    const { user, system } = process.cpuUsage(cpu);
    assert.ok(user + system < 6e6, `mutation ${i} of seed ${seed} took ${(user + system) / 1e6} s`);
  }
  const megabytes = (process.resourceUsage().maxRSS - peak) / 1024;
  assert.ok(megabytes < 300, `${count} mutations of seed ${seed} took ${megabytes} MB`);
  return ends;
}
