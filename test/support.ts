// What tests of GPU code share: one device a process, and a check that a test leaves no tensor behind.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openDevice, type Device, type DeviceOptions } from '../core/index.ts';

/** Registers tests that get a device. */
export interface GpuSuite {
  (name: string, run: (context: { device: Device }) => void | Promise<void>): void;
  run(): void;
}

/** A suite whose tests share a device. Each test must end with as many live tensors as it began with. */
export function gpuSuite(name: string, options: DeviceOptions = {}): GpuSuite {
  const test = suite<{ device: Device }>(name);
  test.before(async (context) => {
    context.device = await openDevice(options);
  });
  test.after(({ device }) => {
    device.destroy();
  });
  const register = (title: string, run: (context: { device: Device }) => void | Promise<void>): void => {
    test(title, async (context) => {
      const live = context.device.liveTensors;
      await run(context);
      assert.is(context.device.liveTensors, live, 'live tensors after the test');
    });
  };
  return Object.assign(register, { run: () => test.run() });
}

/** Numbers in [-1, 1) that are the same in every run. */
export function uniform(count: number, seed = 1): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 23 - 1;
  });
}

/** Largest difference, relative to the largest expected value. */
export function peakError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let peak = 0,
    error = 0;
  for (let i = 0; i < expected.length; i++) {
    peak = Math.max(peak, Math.abs(expected[i]));
    error = Math.max(error, Math.abs(actual[i] - expected[i]));
    if (Number.isNaN(actual[i]) !== Number.isNaN(expected[i])) return Infinity;
  }
  return peak === 0 ? error : error / peak;
}

export function assertClose(actual: ArrayLike<number>, expected: ArrayLike<number>, limit: number, label = ''): void {
  assert.is(actual.length, expected.length, `${label} length`);
  const error = peakError(actual, expected);
  assert.ok(error <= limit, `${label}: relative to peak ${error.toExponential(2)}, expected at most ${limit}`);
}
