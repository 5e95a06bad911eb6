// The instance under Node: a real round trip, its errors, its polling, and that it neither outlives nor leaves its
// process.

import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSoftware, openNodeGpu, spinFor } from '../../../core/gpu/node.ts';
import { openDevice } from '../../../core/index.ts';
import { notRun } from '../../support.ts';

const MODULE = JSON.stringify(new URL('../../../core/gpu/node.ts', import.meta.url).href);

/** Runs `body` in a process of its own, with `open` imported; returns its exit status and its standard output. */
function inProcess(
  body: string,
  ...flags: string[]
): { status: number | null; signal: string | null; out: string; err: string } {
  const script = `import { openNodeGpu as open } from ${MODULE};\n${body}`;
  const child = spawnSync(process.execPath, [...flags, '--import', 'tsx', '--input-type=module', '--eval', script], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status: child.status, signal: child.signal, out: child.stdout.trim(), err: child.stderr };
}

test('numbers come back from the adapter as they were written', async () => {
  const { gpu, globals, software, release } = await openNodeGpu();
  const adapter = await gpu.requestAdapter();
  assert.ok(adapter, 'no adapter: run `npx dis-cli setup`');
  assert.is(software, isSoftware(adapter.info));
  const device = await adapter.requestDevice();
  const buffer = device.createBuffer({
    size: 16,
    usage: globals.GPUBufferUsage.MAP_READ | globals.GPUBufferUsage.COPY_DST,
  });
  device.queue.writeBuffer(buffer, 0, new Float32Array([1, -2, 3.5, 1e-7]));
  await buffer.mapAsync(globals.GPUMapMode.READ);
  assert.equal(new Float32Array(buffer.getMappedRange().slice(0)), new Float32Array([1, -2, 3.5, 1e-7]));
  device.destroy();
  release();
  release();
});

test('devices that come and go leave no thread and no file behind', async () => {
  if (process.platform !== 'linux') return;
  const count = (): number[] => ['task', 'fd'].map((name) => readdirSync(`/proc/self/${name}`).length);
  const openAndClose = async (): Promise<void> => {
    (await openDevice()).destroy();
  };
  for (let i = 0; i < 2; i++) await openAndClose();
  const [threads, files] = count();
  for (let i = 0; i < 10; i++) await openAndClose();
  const [threadsLater, filesLater] = count();
  // The pool of Node's own threads may grow by its four meanwhile.
  assert.ok(threadsLater <= threads + 4, `${threads} threads, then ${threadsLater}`);
  assert.ok(filesLater <= files + 2, `${files} files, then ${filesLater}`);
});

test('Dawn is quiet about limits that it lowers, and nothing else is held back', () => {
  const code = `
    import { writeSync } from 'node:fs';
    const opening = open();
    writeSync(2, 'before\\n');
    const { release } = await opening;
    writeSync(2, 'after\\n');
    release();`;
  const { status, err } = inProcess(code);
  assert.equal([status, err], [0, 'before\nafter\n']);
});

test('the null backend validates without a GPU, toggles included', async () => {
  const { gpu, software, release } = await openNodeGpu({ backend: 'null', toggles: ['allow_unsafe_apis'] });
  const device = await (await gpu.requestAdapter())!.requestDevice();
  device.pushErrorScope('validation');
  device.createShaderModule({ code: 'fn f() { let x: i32 = 1.5; }' });
  assert.match((await device.popErrorScope())!.message, /1\.5|i32/);
  assert.is(software, false);
  device.destroy();
  release();
});

test('a name or backend that matches nothing is an error that says what there is', async () => {
  for (const [options, pattern] of [
    [{ backend: 'null', adapterName: 'no such adapter' }, /^\[openNodeGpu\] .*adapter=no such adapter[^]*Null backend/],
    [{ backend: 'no such backend' }, /^\[openNodeGpu\] .*backend=no such backend[^]*vulkan/],
  ] as const) {
    const error = await openNodeGpu(options).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.instance(error, Error);
    assert.match((error as Error).message, pattern);
  }
});

test('isSoftware knows the adapters that compute on the CPU', () => {
  const info = (fields: Partial<GPUAdapterInfo>): GPUAdapterInfo =>
    ({
      vendor: '',
      architecture: '',
      device: '',
      description: '',
      isFallbackAdapter: false,
      ...fields,
    }) as GPUAdapterInfo;
  assert.ok(isSoftware(info({ description: 'llvmpipe: Mesa 25.0.7 (LLVM 15.0.6)' })));
  assert.ok(isSoftware(info({ vendor: 'google', architecture: 'swiftshader' })));
  assert.ok(isSoftware(info({ description: 'Microsoft Basic Render Driver' })));
  assert.ok(isSoftware(info({ isFallbackAdapter: true })));
  assert.not(isSoftware(info({ vendor: 'nvidia', architecture: 'hopper', description: 'NVIDIA H200' })));
  assert.not(isSoftware(info({ vendor: 'apple', architecture: 'metal-3' })));
});

test('polite polling replaces setImmediate while an instance asks for it, and leaves its own callers alone', async () => {
  const original = globalThis.setImmediate;
  const first = await openNodeGpu({ backend: 'null', politePolling: true });
  const second = await openNodeGpu({ backend: 'null', politePolling: true });
  const plain = await openNodeGpu({ backend: 'null' });
  assert.is.not(globalThis.setImmediate, original);
  assert.equal(await new Promise((resolve) => setImmediate((...args: unknown[]) => resolve(args), 1, 'b')), [1, 'b']);
  assert.is(await promisify(setImmediate)('value'), 'value');

  const device = await (await first.gpu.requestAdapter())!.requestDevice();
  await device.queue.onSubmittedWorkDone();
  device.destroy();
  first.release();
  assert.is.not(globalThis.setImmediate, original);
  second.release();
  assert.is(globalThis.setImmediate, original);
  plain.release();
});

test('only long rows of tiny dispatches are spun for', () => {
  assert.is(spinFor(1000, Infinity), spinFor(1, Infinity));
  assert.is(spinFor(1000, 1), spinFor(1, Infinity));
  assert.is(spinFor(10, 0.01), spinFor(1, Infinity));
  assert.ok(spinFor(1000, 0.05) >= 1000 * 0.05);
});

test('the process exits by itself after release, and not before while a device waits', () => {
  const { status, signal, out } = inProcess(`
    const { gpu, globals, release } = await open();
    const device = await (await gpu.requestAdapter()).requestDevice();
    const buffer = device.createBuffer({ size: 4, usage: globals.GPUBufferUsage.MAP_READ });
    await buffer.mapAsync(globals.GPUMapMode.READ);
    device.destroy();
    release();
    console.log('done');
  `);
  assert.equal({ status, signal, out }, { status: 0, signal: null, out: 'done' });
});

test('the instance survives the garbage collector while it is not released', () => {
  const { status, signal, out } = inProcess(
    `
    const device = await (async () => (await (await open()).gpu.requestAdapter()).requestDevice())();
    for (let i = 0; i < 20; i++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 5));
      await device.queue.onSubmittedWorkDone();
    }
    console.log('alive');
    process.exit(0);
  `,
    '--expose-gc',
  );
  assert.equal({ status, signal, out }, { status: 0, signal: null, out: 'alive' });
});

/** A test of the software driver, which is looked for on Linux alone. */
function onLinux(title: string, run: () => void | Promise<void>): void {
  test(title, () =>
    process.platform === 'linux' ? run() : notRun('a software driver is looked for on Linux alone', title),
  );
}

onLinux('a driver folder that is none is named', async () => {
  const before = process.env.DIS_VULKAN_DIR;
  const empty = mkdtempSync(join(tmpdir(), 'no-driver-'));
  process.env.DIS_VULKAN_DIR = empty;
  try {
    const error = await openNodeGpu().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    assert.match(
      (error as Error).message,
      /^\[openNodeGpu\] DIS_VULKAN_DIR is .*no-driver-.*no driver\.json.*npx dis-cli setup --dir/,
    );
  } finally {
    if (before === undefined) delete process.env.DIS_VULKAN_DIR;
    else process.env.DIS_VULKAN_DIR = before;
    rmSync(empty, { recursive: true });
  }
});

/**
 * A package of this module without a driver of its own, in a folder beside `data`, and what opening it in `data` gives.
 */
function inPackage(prepare: (folder: string) => NodeJS.ProcessEnv): {
  status: number | null;
  out: string;
  err: string;
} {
  const folder = mkdtempSync(join(tmpdir(), 'driver-'));
  try {
    const core = fileURLToPath(new URL('../../../core', import.meta.url));
    cpSync(core, join(folder, 'package', 'core'), { recursive: true });
    symlinkSync(join(core, '..', 'node_modules'), join(folder, 'package', 'node_modules'));
    writeFileSync(join(folder, 'package', 'package.json'), '{"type":"module"}');
    mkdirSync(join(folder, 'data', 'inside'), { recursive: true });
    const env = {
      ...process.env,
      DIS_VULKAN_DIR: '',
      VK_DRIVER_FILES: '',
      VK_ICD_FILENAMES: '',
      XDG_CACHE_HOME: join(folder, 'cache'),
      ...prepare(folder),
    };
    const script = `import { openNodeGpu } from ${JSON.stringify(join(folder, 'package', 'core', 'gpu', 'node.ts'))};
      await openNodeGpu().then((node) => { node.release(); console.log('opened', process.env.VK_DRIVER_FILES || 'no driver'); }, (error) => console.log(error.message));`;
    // tsx is found from the package.
    const child = spawnSync(
      process.execPath,
      [
        '--import',
        new URL('../../../node_modules/tsx/dist/esm/index.mjs', import.meta.url).href,
        '--input-type=module',
        '--eval',
        script,
      ],
      { cwd: join(folder, 'data', 'inside'), env, encoding: 'utf8', timeout: 60_000 },
    );
    return { status: child.status, out: child.stdout.trim().replaceAll(folder, 'FOLDER'), err: child.stderr };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A driver folder whose one library is a text: loading it fails with a message that names it. */
function driverIn(folder: string, preload = 'library.so'): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'icd.json'), '{}');
  writeFileSync(join(folder, 'library.so'), 'no library');
  writeFileSync(join(folder, 'driver.json'), JSON.stringify({ icd: 'icd.json', preload: [preload] }));
  chmodSync(folder, 0o755);
  for (const name of ['icd.json', 'library.so', 'driver.json']) chmodSync(join(folder, name), 0o644);
  return folder;
}

onLinux('a driver beside data is not loaded, neither in the working directory nor above it', () => {
  const { status, out } = inPackage((folder) => {
    driverIn(join(folder, 'data', 'inside', '.vulkan'));
    driverIn(join(folder, 'data', '.vulkan'));
    driverIn(join(folder, '.vulkan')); // above the package too
    return {};
  });
  assert.equal({ status, out }, { status: 0, out: 'opened no driver' });
});

onLinux("a driver of the package, of the user's cache and of DIS_VULKAN_DIR is loaded", () => {
  for (const place of ['package/.vulkan', 'cache/dis-webgpu/vulkan', 'named']) {
    const { out } = inPackage((folder) => {
      const driver = driverIn(join(folder, place));
      return place === 'named' ? { DIS_VULKAN_DIR: driver } : {};
    });
    assert.match(
      out,
      new RegExp(`^\\[openNodeGpu\\] The software Vulkan driver cannot be loaded: FOLDER/${place}/library\\.so: `),
    );
  }
});

onLinux('a driver that somebody else could have written is refused by name', () => {
  const refusal = (spoil: (driver: string) => void, preload?: string): string =>
    inPackage((folder) => {
      spoil(driverIn(join(folder, 'package', '.vulkan'), preload));
      return {};
    }).out;
  for (const name of ['', 'driver.json', 'icd.json', 'library.so']) {
    assert.match(
      refusal((driver) => chmodSync(join(driver, name), 0o777)),
      new RegExp(`is not loaded: FOLDER/package/.vulkan/?${name} can be written by others`),
    );
  }
  assert.match(
    refusal(() => undefined, '../../data'),
    /is not loaded: \.\.\/\.\.\/data lies outside of it, .*npx dis-cli setup --force/,
  );
  assert.match(
    refusal(() => undefined, 'gone.so'),
    /is not loaded: gone\.so is missing/,
  );
  if (process.getuid?.() === 0)
    assert.match(
      refusal((driver) => chownSync(join(driver, 'library.so'), 12345, 12345)),
      /library\.so belongs to user 12345/,
    );
});

test.run();
