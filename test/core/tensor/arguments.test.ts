// What the console shows of a tensor, and what is said where JavaScript lets the wrong kind of value through.

import { inspect } from 'node:util';
import * as assert from 'uvu/assert';
import * as core from '../../../core/index.ts';
import { tensor } from '../../../core/index.ts';
import { gpuSuite } from '../../support.ts';

const test = gpuSuite('arguments');

test('the console shows a tensor as text, without its insides', ({ device }) => {
  const x = tensor(device, [
    [1, 2, 3],
    [4, 5, 6],
  ]);
  const view = x.T,
    leaf = tensor(device, [1], { requiresGrad: true });
  assert.is(inspect(x), 'Tensor(f32, (2,3))');
  assert.is(inspect([view, leaf]), '[ Tensor(f32, (3,2), strides (1,3)), Tensor(f32, (1,), requiresGrad) ]');
  for (const t of [x, view, leaf]) t.dispose();
  assert.is(inspect(x), 'Tensor(f32, (2,3), disposed)');
});

test('what JavaScript lets through is answered in one sentence with what to write', ({ device }) => {
  const x = tensor(device, [
    [1, 2],
    [3, 4],
  ]);
  const any = x as unknown as Record<string, (...args: unknown[]) => unknown>,
    make = core as unknown as Record<string, (...args: unknown[]) => unknown>;
  const cases: [() => unknown, string][] = [
    [
      () => make.tensor([1, 2]),
      '[tensor] The first argument is the array [1,2], expected a device; write tensor(device, …) with const device = await openDevice().',
    ],
    [
      () => make.zeros([2]),
      '[zeros] The first argument is the array [2], expected a device; write zeros(device, …) with const device = await openDevice().',
    ],
    [() => make.zeros(device, 3), '[empty] The shape is the number 3, expected an array of whole numbers; write [3].'],
    [
      () => any.sum({ axis: 1 }),
      '[sum] The axis is {"axis":1}, expected a number or an array of numbers; write sum(1).',
    ],
    [() => any.softmax({ dim: -1 }), '[softmax] The axis is {"dim":-1}, expected a number; write softmax(-1).'],
    [() => any.cumsum('0'), '[cumsum] The axis is 0, expected a number.'],
    [() => any.add('a'), '[add] Operand 2 is the string "a", expected a tensor or a number.'],
    [() => any.add(), '[add] Operand 2 is undefined, expected a tensor or a number.'],
    [
      () => any.mul([1, 2]),
      '[mul] Operand 2 is the array [1,2], expected a tensor or a number; make a tensor of it: tensor(device, [...]).',
    ],
    [() => any.matmul(2), '[matmul] Operand 2 is the number 2, expected a tensor.'],
    [() => make.concat(x, x), '[concat] The parts are a tensor of shape (2,2), expected an array of tensors.'],
    [() => make.stack([x, null]), '[stack] Operand 2 is null, expected a tensor.'],
  ];
  for (const [run, message] of cases)
    assert.throws(run, (e: Error) => (assert.is(e.message, message), e instanceof core.ValueError), message);
  x.dispose();
});

test.run();
