// What is tested in a browser. A case asserts against references of its own, or returns a value that must be the same, digit for
// digit, when the case runs under Node: the same source for both.

import * as assert from 'uvu/assert';
import { hash32 } from '../../models/data/hash.ts';
import { shapesItem } from '../../models/data/shapes.ts';
import { readSafetensors, writeSafetensors, type SafetensorsEntry } from '../../nn/safetensors.ts';

export interface Case {
  readonly name: string;
  run(): unknown;
}

const digest = (bytes: ArrayLike<number>): number => Array.from(bytes).reduce((hash, byte) => hash32(hash, byte), 0);

export const cases: readonly Case[] = [
  {
    name: 'shapes are drawn as under Node, pixel for pixel',
    run: () => Array.from({ length: 20 }, (_, index) => digest(shapesItem(index, { size: 32, seed: 7, variation: 1 }).pixels)),
  },
  {
    name: 'safetensors are written as under Node, byte for byte, and read back',
    run() {
      const data = Float32Array.from({ length: 6 }, (_, i) => (i - 2.5) / 3);
      const tensors: [string, SafetensorsEntry][] = [['weight', { dtype: 'F32', shape: [2, 3], data }]];
      const file = writeSafetensors(tensors, [['made', 'here']]);
      assert.equal(readSafetensors(file).tensors.get('weight')?.data, data);
      return digest(file);
    },
  },
];
