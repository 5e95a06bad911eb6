// What tests of GPU code share: one device a process, a check that a test leaves no tensor behind, and the word for
// what an adapter or a machine lacks: such a test is reported as not run, and test/run.ts does not count it as passed.

import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { openDevice, type Device, type DeviceOptions } from '../core/index.ts';

export type Feature = Parameters<Device['has']>[0];

export interface GpuContext {
  device: Device;
  /** Disposes of `item` when the test is over. */
  own<T extends { dispose(): void }>(item: T): T;
  /** Opens a device for this test alone; what is alive on it at the end of the test is a leak. */
  open(options: DeviceOptions): Promise<Device>;
}

type Run<Name extends string> = (context: GpuContext & Record<Name, Device>) => void | Promise<void>;

/** Registers tests that get the devices of a suite. */
export interface GpuTests<Name extends string = never> {
  (title: string, run: Run<Name>): void;
  /** A test of what needs a feature of WebGPU. On a `device` without it the test is reported as not run. */
  (title: string, options: { needs?: Feature | undefined }, run: Run<Name>): void;
  /** Makes what the tests share. Its tensors live until the devices go. */
  before(make: (devices: Record<Name | 'device', Device>) => void | Promise<void>): void;
}

export interface GpuSuite<Name extends string = never> extends GpuTests<Name> {
  run(): void;
}

/** Options of the suite's `device` and of further ones, which tests get under the names given here. */
type Devices<Name extends string> = { readonly device?: DeviceOptions } & { readonly [N in Name]: DeviceOptions };

/**
 * A suite whose tests share devices. Each test must end with as many live tensors as it began with, on each of them.
 */
export function gpuSuite<Name extends string = never>(
  title: string,
  devices = {} as Devices<Exclude<Name, 'device'>>,
): GpuSuite<Exclude<Name, 'device'>> {
  const test = suite(title);
  return Object.assign(onDevices(test, title, devices), { run: () => test.run() });
}

/** The tests of a suite that is registered elsewhere, as `gpuSuite` has them. */
export function onDevices<Name extends string = never>(
  test: Test,
  suiteTitle: string,
  options = {} as Devices<Name>,
): GpuTests<Name> {
  const devices = {} as Record<Name | 'device', Device>;
  const all = (): Device[] => Object.values<Device>(devices);
  test.before(async () => {
    for (const [name, each] of Object.entries<DeviceOptions>({ device: {}, ...options }))
      devices[name as Name] = await openDevice(each);
  });
  test.after(() => {
    for (const device of all()) device.destroy();
  });

  const register = (title: string, given: { needs?: Feature | undefined } | Run<Name>, body?: Run<Name>): void => {
    const { needs } = typeof given === 'function' ? { needs: undefined } : given;
    const run = typeof given === 'function' ? given : body!;
    test(title, async () => {
      current = `${suiteTitle}: ${title}`;
      if (needs !== undefined && !devices.device.has(needs)) return notRun(`the adapter has no ${needs}`);
      const live = all().map(tensorsOf);
      const opened: Device[] = [];
      const owned: { dispose(): void }[] = [];
      try {
        await run({
          ...devices,
          own: (item) => {
            owned.push(item);
            return item;
          },
          open: async (each) => {
            const device = await openDevice(each);
            opened.push(device);
            return device;
          },
        });
        for (const item of owned.splice(0).reverse()) item.dispose();
        assert.equal(
          [...all(), ...opened].map(tensorsOf),
          [...live, ...opened.map(() => 0)],
          'live tensors after the test, a number a device',
        );
      } finally {
        for (const item of owned) item.dispose();
        for (const device of opened) device.destroy();
      }
    });
  };
  return Object.assign(register, {
    before: (make: (given: Record<Name | 'device', Device>) => void | Promise<void>) =>
      test.before(() => make(devices)),
  });
}

/** The test that runs, for the notes below. */
let current = '';

/**
 * Tells that a test does not run here, and why; the test then returns. Inside of a `gpuSuite` its name is known.
 * test/run.ts reads the line.
 */
export function notRun(reason: string, title = current): void {
  process.stdout.write(`\nnot run: ${title} (${reason})\n`);
}

/**
 * Whether `device` has the feature; where it lacks it, says that the running test leaves out the part that needs it.
 */
export function hasFeature(device: Device, feature: Feature): boolean {
  if (device.has(feature)) return true;
  const note = `${current} (in part: the adapter has no ${feature})`;
  if (!noted.has(note)) process.stdout.write(`\nnot run in part: ${note}\n`);
  noted.add(note);
  return false;
}

const noted = new Set<string>();

/** Tensors that were not disposed of, also those that the garbage collector has found: it may run at any time. */
const tensorsOf = (device: Device): number => device.liveTensors + device.leakedTensors;

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
