import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import {
  AdapterError,
  CompileError,
  EngineError,
  errorClause,
  errorSentence,
  GpuError,
  ShapeError,
  ValueError,
} from '../../core/index.ts';
import { warmupCosine } from '../../nn/index.ts';

const test = suite('errors');

test('the message is made of the fields', () => {
  const cases: [EngineError, string][] = [
    [
      new ShapeError('matmul', 'a has shape (2,3) and b (4,5)', {
        expected: 'the last dimension of a to be the one before last of b',
        remedy: 'transpose one of them',
      }),
      '[matmul] a has shape (2,3) and b (4,5), expected the last dimension of a to be the one before last of b; transpose one of them.',
    ],
    [new ShapeError('add', 'Shapes differ'), '[add] Shapes differ.'],
    [new ShapeError('add', 'Shapes differ', { expected: 'the same' }), '[add] Shapes differ, expected the same.'],
    [new ShapeError('add', 'Shapes differ', { remedy: 'expand() one' }), '[add] Shapes differ; expand() one.'],
    [new ShapeError('dot', 'Shapes differ.'), '[dot] Shapes differ.'],
    [new ShapeError('x', 'Is it', { remedy: 'is there another?' }), '[x] Is it; is there another?'],
    [
      new ValueError('warmupCosine', 'is 2', { option: 'minLr', expected: 'at most 1' }),
      '[warmupCosine] minLr is 2, expected at most 1.',
    ],
  ];
  for (const [error, message] of cases) {
    assert.is(error.message, message);
    assert.is(`[${error.operation}] ${errorSentence(error)}`, message);
    assert.instance(error, EngineError);
  }
});

test('the fields can be read, and those not given are undefined', () => {
  const cause = new Error('below');
  const error = new ValueError('op', 'is 2', { option: 'x', expected: '1', remedy: 'count', cause });
  const { name, operation, what, expected, remedy, option } = error;
  assert.equal(
    { name, operation, what, expected, remedy, option },
    { name: 'ValueError', operation: 'op', what: 'is 2', expected: '1', remedy: 'count', option: 'x' },
  );
  assert.is(error.cause, cause);
  assert.is(errorClause(error), 'x is 2');
  const plain = new ValueError('op', 'wrong');
  assert.equal(
    [plain.expected, plain.remedy, plain.option, 'cause' in plain],
    [undefined, undefined, undefined, false],
  );
});

test('what an error tells beside its sentence is a field too', () => {
  const compile = new CompileError('silu', 'expected an expression', { listing: '1 | let x = ;' });
  assert.is(compile.message, '[silu] expected an expression.\n1 | let x = ;');
  assert.equal([compile.what, compile.listing], ['expected an expression', '1 | let x = ;']);
  assert.equal(
    [new GpuError('device', 'x').outOfMemory, new GpuError('device', 'x', { outOfMemory: true }).outOfMemory],
    [false, true],
  );
  assert.equal(new AdapterError('openNodeGpu', 'none', { available: ['a'] }).available, ['a']);
});

test('an option is named by the error of a function that takes it', () => {
  try {
    warmupCosine({ lr: 1, minLr: 2, total: 5 });
    assert.unreachable();
  } catch (error) {
    assert.instance(error, ValueError);
    const { operation, what, expected, option } = error as ValueError;
    assert.equal([operation, option, what, expected], ['warmupCosine', 'minLr', 'is 2', 'at most lr, which is 1']);
  }
});

test.run();
