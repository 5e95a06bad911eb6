import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { sampleCommand } from '../../cli/commands/sample.ts';
import { trainCommand } from '../../cli/commands/train.ts';
import { EXIT, UsageError, describeFailure, isDiskFull } from '../../cli/errors.ts';
import { flagOf, OPTIONS_WITH_FLAG } from '../../cli/flagNames.ts';
import { FileError } from '../../cli/files.ts';
import {
  AdapterError,
  CompileError,
  DeviceLostError,
  FormatError,
  GpuError,
  ShapeError,
  ValueError,
} from '../../core/errors.ts';

const test = suite('errors');

test('each kind of error has a sentence and a status', () => {
  const system = (code: string, path = '/data/x'): Error =>
    Object.assign(new Error(`${code}: it failed, open '${path}'`), { code, path });
  const cases: [unknown, string, number][] = [
    [
      new UsageError('--batch is "x", expected a whole number.'),
      '--batch is "x", expected a whole number.',
      EXIT.usage,
    ],
    [
      new ValueError('disSize', 'unknown model "Q"', { expected: 'one of A, B' }),
      'Unknown model "Q", expected one of A, B.',
      EXIT.usage,
    ],
    [
      new ValueError('warmupCosine', 'is 2', { option: 'minLr', expected: 'at most 1', remedy: 'lower it' }),
      '--min-lr is 2, expected at most 1; lower it.',
      EXIT.usage,
    ],
    [new ValueError('disConfig', 'is 3', { option: 'ssm.dtMin' }), 'ssm.dtMin is 3.', EXIT.usage],
    [
      new FileError('createRun', 'runs holds another run', { path: 'runs', remedy: 'go on' }),
      'runs holds another run; go on.',
      EXIT.file,
    ],
    [
      new FormatError('readSafetensors', 'a.safetensors is damaged: it is cut'),
      'a.safetensors is damaged: it is cut.',
      EXIT.file,
    ],
    [new AdapterError('openDevice', 'WebGPU found no adapter'), 'WebGPU found no adapter.', EXIT.gpu],
    [
      new DeviceLostError('train', 'The GPU device was lost', { remedy: 'go on' }),
      'The GPU device was lost; go on.',
      EXIT.gpu,
    ],
    [
      new CompileError('silu', 'expected an expression', { listing: '1 | let x = ;' }),
      'Expected an expression.',
      EXIT.failure,
    ],
    [
      system('ENOSPC'),
      'Cannot use /data/x: no space is left on the device; free some space and run the command again.',
      EXIT.file,
    ],
    [
      system('EACCES'),
      'Cannot use /data/x: permission is denied; choose a place that you may read and write.',
      EXIT.file,
    ],
    [new Error('two\n  lines'), 'two lines.', EXIT.failure],
    ['a string', 'a string.', EXIT.failure],
    [new Error(''), 'Something went wrong.', EXIT.failure],
  ];
  for (const [error, message, status] of cases) {
    const described = describeFailure(error);
    assert.equal([described.message, described.status], [message, status]);
    assert.not.match(described.message, '\n');
  }
});

test('a GPU without memory says what to lower; other errors of the engine are unexpected', () => {
  const memory = describeFailure(
    new GpuError('device', 'The GPU is out of memory: buffer of 8 GiB', { outOfMemory: true, remedy: 'trim()' }),
  );
  assert.is(
    memory.message,
    'The GPU is out of memory: buffer of 8 GiB; lower --batch, or split it with --micro-batches.',
  );
  assert.equal([memory.status, memory.unexpected], [EXIT.gpu, false]);
  for (const error of [
    new ShapeError('add', 'Shapes differ'),
    new GpuError('device', 'Buffer is destroyed'),
    new TypeError('x is undefined'),
  ])
    assert.is(describeFailure(error).unexpected, true);
  assert.is(describeFailure(new UsageError('x')).unexpected, false);
});

test('every flag that stands for an option of the API is a flag of a command', () => {
  const commands = [trainCommand(), sampleCommand()];
  const flags = new Set(commands.flatMap((command) => command.options.map((option) => option.long)));
  for (const option of OPTIONS_WITH_FLAG) assert.ok(flags.has(flagOf(option)), `${option}: ${flagOf(option)}`);
  assert.is(flagOf('ssm.dtMin'), 'ssm.dtMin');
});

test('a full disk is known by its code', () => {
  assert.ok(isDiskFull({ code: 'ENOSPC' }));
  assert.ok(isDiskFull(new FileError('write', 'full', { path: 'x', cause: { code: 'EDQUOT' } })));
  assert.not(isDiskFull(new Error('ENOSPC')));
});

test.run();
