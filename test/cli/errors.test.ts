import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EXIT, UsageError, describeFailure, isDiskFull } from '../../cli/errors.ts';
import { FileError } from '../../cli/files.ts';
import { AdapterError, DeviceLostError, FormatError, GpuError, ShapeError, ValueError } from '../../core/errors.ts';

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
      new ValueError('[disSize] unknown model "Q", expected one of A, B.'),
      'Unknown model "Q", expected one of A, B.',
      EXIT.usage,
    ],
    [new FileError('[createRun] runs holds another run; go on.', 'runs'), 'runs holds another run; go on.', EXIT.file],
    [
      new FormatError('[readSafetensors] a.safetensors is damaged: it is cut.'),
      'a.safetensors is damaged: it is cut.',
      EXIT.file,
    ],
    [new AdapterError('[openDevice] WebGPU found no adapter.'), 'WebGPU found no adapter.', EXIT.gpu],
    [new DeviceLostError('[train] The GPU device was lost; go on.'), 'The GPU device was lost; go on.', EXIT.gpu],
    [
      new Error('[openNodeGpu] The npm package webgpu cannot be loaded'),
      'The npm package webgpu cannot be loaded.',
      EXIT.gpu,
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
  const memory = describeFailure(new GpuError('[device] Out of memory: buffer of 8 GiB.'));
  assert.match(memory.message, /^The GPU is out of memory: .* Lower --batch/);
  assert.equal([memory.status, memory.unexpected], [EXIT.gpu, false]);
  for (const error of [new ShapeError('[add] Shapes differ.'), new TypeError('x is undefined')])
    assert.is(describeFailure(error).unexpected, true);
  assert.is(describeFailure(new UsageError('x')).unexpected, false);
});

test('a full disk is known by its code', () => {
  assert.ok(isDiskFull({ code: 'ENOSPC' }));
  assert.ok(isDiskFull(new FileError('full', 'x', { code: 'EDQUOT' })));
  assert.not(isDiskFull(new Error('ENOSPC')));
});

test.run();
