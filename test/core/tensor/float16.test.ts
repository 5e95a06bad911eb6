// Conversions between f16 and f32 against the Float16Array of @petamoriken/float16: every pattern, and numbers at and beside every tie.

import { Float16Array } from '@petamoriken/float16';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { bitsOf, float16BitsToFloat32, float32ToFloat16Bits } from '../../../core/tensor/float16.ts';

const test = suite('float16');

const PATTERNS = Uint16Array.from({ length: 65536 }, (_, i) => i);
const NUMBERS = Float32Array.from(new Float16Array(PATTERNS.buffer));

/** The pattern, or `NaN` for all patterns of that. */
const patterns = (bits: Uint16Array): (number | string)[] =>
  Array.from(bits, (pattern) => ((pattern & 0x7fff) > 0x7c00 ? 'NaN' : pattern));

test('each pattern is the number that it is for the library', () => {
  const numbers = float16BitsToFloat32(PATTERNS);
  assert.is(
    NUMBERS.findIndex((number, i) => !Object.is(number, numbers[i])),
    -1,
  );
});

test('numbers are rounded as by the library, at ties and beside them', () => {
  const near = Array.from(NUMBERS.filter(Number.isFinite)).flatMap((number) => {
    const step = Math.max(2 ** -24, 2 ** (Math.floor(Math.log2(Math.abs(number))) - 10));
    const tie = number + step / 2;
    return [number, tie, tie * (1 + 2 ** -22), tie * (1 - 2 ** -22), number / 3];
  });
  const values = [...near, 65504, 65519.99, 65520, 1e30, 1e300, -1e300, 1e-30, -1e-30, -0, Infinity, -Infinity, NaN];
  assert.equal(patterns(float32ToFloat16Bits(values)), patterns(bitsOf(new Float16Array(values))));
});

test.run();
