// Opens WebGPU under Node, through Dawn (npm `webgpu`). The only module below cli that touches Node: core/open.ts
// imports it dynamically, and the `browser` field of package.json keeps it out of bundles.
//
// Three things that a browser does for its pages have to be done here: find a driver (a software Vulkan driver that
// `dis-cli setup` provided is made usable inside this process), poll without starving a software adapter,
// and keep Dawn's instance alive.

import { closeSync, existsSync, fstatSync, readFileSync, readSync, realpathSync, statSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { dirname, isAbsolute, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AdapterError } from '../errors.ts';

/** Constants and interface objects of WebGPU, as a browser has them on `globalThis`. */
export interface NodeGpuGlobals {
  readonly GPUBufferUsage: typeof GPUBufferUsage;
  readonly GPUMapMode: typeof GPUMapMode;
  readonly GPUShaderStage: typeof GPUShaderStage;
  readonly GPUTextureUsage: typeof GPUTextureUsage;
  readonly GPUColorWrite: typeof GPUColorWrite;
  readonly GPUComputePassEncoder: typeof GPUComputePassEncoder;
  readonly GPUQueue: typeof GPUQueue;
  readonly GPUBuffer: typeof GPUBuffer;
  readonly GPUDevice: typeof GPUDevice;
  readonly GPUError: typeof GPUError;
  readonly GPUValidationError: typeof GPUValidationError;
  readonly GPUOutOfMemoryError: typeof GPUOutOfMemoryError;
  readonly GPUInternalError: typeof GPUInternalError;
  readonly GPUPipelineError: typeof GPUPipelineError;
}

export interface NodeGpuOptions {
  /** Dawn toggles to enable, for example `['allow_unsafe_apis']`. */
  toggles?: readonly string[];
  /** `'null'` (validates everything, runs nothing), `'vulkan'`, `'metal'`, `'d3d12'`, …; default: the platform's. */
  backend?: 'null' | (string & {});
  /** Part of the name of the adapter to take, as Dawn lists it. */
  adapterName?: string;
  /** Wait for the GPU with timers instead of spinning; default: on software adapters only. */
  politePolling?: boolean;
}

export interface NodeGpu {
  readonly gpu: GPU;
  readonly globals: NodeGpuGlobals;
  /** Whether the adapter that `gpu.requestAdapter()` gives computes on the CPU. False where there is no adapter. */
  readonly software: boolean;
  /** Gives back what was changed for its sake. Call it after the last device is destroyed; idempotent. */
  release(): void;
}

// Dawn's instance must not be collected while a device lives: the process would crash or hang. One that found an adapter stays and is used
// again: with each of them the driver begins threads and opens a file, which it keeps until the process ends.
const instances = new Map<string, GPU>();

/**
 * Opens WebGPU under Node. Call it on the main thread: a worker's `process.env` doesn't reach the Vulkan loader.
 *
 * A software driver is looked for in `DIS_VULKAN_DIR`, else in `.vulkan/` of this package, else in the user's cache
 * (`~/.cache/dis-webgpu/vulkan`), and nowhere else: its libraries run in this process, so a folder of data must not be
 * able to name them. A `VK_DRIVER_FILES` that names another driver is left to decide alone.
 *
 * @throws AdapterError when the npm package `webgpu` has no build for this platform or cannot be loaded, when `backend`
 *   or `adapterName` match nothing (the message lists what there is), and when somebody else may write the software
 *   driver.
 */
export async function openNodeGpu(options: NodeGpuOptions = {}): Promise<NodeGpu> {
  process.env.XDG_RUNTIME_DIR ??= tmpdir(); // Mesa warns without it
  if (options.backend !== 'null') useProjectDriver();

  const { create, globals } = await importDawn();
  // Timestamps are rounded to a tenth of a millisecond against timing attacks between pages; there are none here.
  const flags = ['disable-dawn-features=timestamp_quantization'];
  if (options.backend !== undefined) flags.push(`backend=${options.backend}`);
  if (options.adapterName !== undefined) flags.push(`adapter=${options.adapterName}`);
  if (options.toggles?.length) flags.push(`enable-dawn-features=${options.toggles.join(',')}`);

  const key = JSON.stringify([flags, process.env.VK_DRIVER_FILES]);
  const gpu = instances.get(key) ?? create(flags);
  let polite = false;
  try {
    const adapter = await withoutNeedlessWarnings(() => gpu.requestAdapter());
    if (adapter) instances.set(key, gpu);
    const software = adapter !== null && isSoftware(adapter.info);
    polite = options.politePolling ?? software;
    if (polite) acquirePolitePolling(globals);
    let released = false;
    return {
      gpu,
      globals,
      software,
      release() {
        if (released) return;
        released = true;
        if (polite) releasePolitePolling();
      },
    };
  } catch (cause) {
    const detail = cause instanceof Error ? cause.message : String(cause);
    // Where a name matches none, Dawn's text lists the adapters, once for each backend.
    const names = Array.from(detail.matchAll(/name: '([^']+)'/g), ([, name]) => name);
    throw new AdapterError('openNodeGpu', `Dawn opens no adapter for (${flags.join(', ')}): ${detail.trim()}`, {
      available: [...new Set(names)],
      cause,
    });
  }
}

/** Dawn lowers two limits of some drivers to what it has a use for, and says so at every start; nobody can do anything about it. */
const NEEDLESS = /^Warning: maxDynamic\w+PerPipelineLayout artificially reduced .*\n(?: +at .*\n+)*/gm;

/**
 * Runs a call of Dawn without those warnings. It writes them straight to the file descriptor of stderr and has no setting for it, so that
 * points into memory meanwhile, and what else was written goes on its way after. Only on Linux, where they come, and with koffi.
 */
async function withoutNeedlessWarnings<T>(call: () => T): Promise<T> {
  if (process.platform !== 'linux' || process.env.DIS_DEBUG) return call();
  const libc = await import('koffi').then(({ default: koffi }) => koffi.load('libc.so.6')).catch(() => undefined);
  if (!libc) return call();
  const dup = libc.func('int dup(int)') as (file: number) => number;
  const dup2 = libc.func('int dup2(int, int)') as (from: number, to: number) => number;
  const memory = (libc.func('int memfd_create(const char *, unsigned int)') as (...a: unknown[]) => number)('dawn', 0);
  const saved = memory < 0 ? -1 : dup(2);
  if (saved < 0) return call();
  dup2(memory, 2);
  try {
    return call();
  } finally {
    dup2(saved, 2);
    closeSync(saved);
    const { size } = fstatSync(memory);
    const text = Buffer.alloc(size);
    readSync(memory, text, 0, size, 0);
    closeSync(memory);
    const rest = text.toString().replace(NEEDLESS, '');
    if (rest !== '') process.stderr.write(rest);
  }
}

/** Whether an adapter computes on the CPU (lavapipe, SwiftShader, WARP). */
export function isSoftware(info: GPUAdapterInfo): boolean {
  return (
    info.isFallbackAdapter === true ||
    /llvmpipe|lavapipe|swiftshader|software|\bcpu\b|basic render/i.test(
      `${info.vendor} ${info.architecture} ${info.device} ${info.description}`,
    )
  );
}

async function importDawn(): Promise<{ create(flags: string[]): GPU; globals: NodeGpuGlobals }> {
  try {
    const dawn = await import('webgpu');
    return { create: dawn.create, globals: dawn.globals as NodeGpuGlobals };
  } catch (cause) {
    const detail = (cause instanceof Error ? cause.message : String(cause)).split('\n')[0];
    if (/^Cannot find package 'webgpu'/.test(detail))
      throw new AdapterError('openNodeGpu', 'The npm package webgpu is not installed', {
        expected: 'it under Node, where it is what navigator.gpu is in a browser',
        remedy: 'run `npx dis-cli setup`, which installs it and finds an adapter, or `npm install webgpu`',
        cause,
      });
    throw new AdapterError(
      'openNodeGpu',
      `The npm package webgpu cannot be loaded on ${process.platform}-${process.arch}: ${detail}`,
      {
        expected: 'a build for this platform',
        remedy: 'install it again, and on Linux check that the C library is glibc 2.35 or newer',
        cause,
      },
    );
  }
}

// ── the project's own software driver ────────────────────────────────────────────────────────────────────────────────

/** `.vulkan/driver.json`, written last by cli/setup-adapter.mjs: its presence says that the folder is whole. */
interface DriverManifest {
  /** Vulkan's driver manifest, relative to the folder. */
  icd: string;
  /** Shared libraries relative to the folder, each after those that it needs. */
  preload: string[];
}

const preloaded = new Set<string>();

/**
 * Makes a driver folder usable in this process. The dynamic linker read LD_LIBRARY_PATH when the process started, so
 * the libraries are loaded one by one instead, dependencies first: when the Vulkan loader opens the driver, all that it
 * needs is found by name among what is loaded already.
 */
function useProjectDriver(): void {
  if (process.platform !== 'linux') return;
  const folder = findDriverFolder();
  if (folder === undefined || preloaded.has(folder)) return;
  const manifest = readManifest(folder);
  const icd = join(folder, manifest.icd);
  const chosen = process.env.VK_DRIVER_FILES || process.env.VK_ICD_FILENAMES;
  // A parent process may have chosen this very driver; then the libraries are still to be loaded.
  if (chosen && resolve(chosen) !== icd) return;

  preloaded.add(folder);
  process.env.VK_DRIVER_FILES = icd;
  process.env.VK_ICD_FILENAMES = icd; // what loaders before 1.3.207 read
  process.env.MESA_SHADER_CACHE_DIR ??= join(folder, 'shader-cache');
  for (const library of manifest.preload) preload(join(folder, library));
}

function preload(file: string): void {
  const RTLD_NOW = 0x2,
    RTLD_GLOBAL = 0x100,
    RTLD_NODELETE = 0x1000;
  try {
    process.dlopen({ exports: {} }, file, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
  } catch (cause) {
    // Loaded, and left in memory by RTLD_NODELETE; Node only misses the marks of an addon.
    if (cause instanceof Error && /self-register/.test(cause.message)) return;
    const detail = cause instanceof Error ? cause.message : String(cause);
    throw new AdapterError('openNodeGpu', `The software Vulkan driver cannot be loaded: ${detail}`, {
      expected: 'the files that the set-up wrote',
      remedy: 'run `npx dis-cli setup --force`',
      cause,
    });
  }
}

function findDriverFolder(): string | undefined {
  const isWhole = (folder: string): boolean => existsSync(join(folder, 'driver.json'));
  const named = process.env.DIS_VULKAN_DIR;
  if (named) {
    if (isWhole(named)) return resolve(named);
    throw new AdapterError('openNodeGpu', `DIS_VULKAN_DIR is ${named}, which holds no driver.json`, {
      expected: 'a folder made by the set-up',
      remedy: `run \`npx dis-cli setup --dir ${named}\` or unset it`,
    });
  }
  const { XDG_CACHE_HOME: cache = '' } = process.env;
  // A relative one would lead to a folder beside the data that a program is called on.
  const caches = isAbsolute(cache) ? cache : join(homedir(), '.cache');
  return [join(packageFolder(), '.vulkan'), join(caches, 'dis-webgpu', 'vulkan')].find(isWhole);
}

/** The nearest folder above this module that holds a package.json: the same from the source and from dist/. */
function packageFolder(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  for (let folder = here; dirname(folder) !== folder; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) return folder;
  }
  return here;
}

/** The manifest of a driver folder, after a check that nobody but this user and root can change what it names. */
function readManifest(folder: string): DriverManifest {
  const refuse = (what: string): never => {
    throw new AdapterError('openNodeGpu', `The software Vulkan driver in ${folder} is not loaded: ${what}`, {
      expected: 'files inside of that folder that only you or root can write',
      remedy: `run \`npx dis-cli setup --force --dir ${folder}\``,
    });
  };
  const root = realpathSync(folder);
  const check = (path: string): void => {
    const { uid, mode } = statSync(path);
    if (uid !== 0 && uid !== process.getuid?.()) refuse(`${path} belongs to user ${uid}`);
    if (mode & 0o022) refuse(`${path} can be written by others`);
  };
  check(root);
  check(join(root, 'driver.json'));
  const manifest = JSON.parse(readFileSync(join(root, 'driver.json'), 'utf8')) as DriverManifest;
  const checked = new Set([root]);
  for (const name of [manifest.icd, ...manifest.preload]) {
    const file = join(root, name);
    if (!existsSync(file)) refuse(`${name} is missing`);
    const real = realpathSync(file);
    if (!real.startsWith(root + sep)) refuse(`${name} lies outside of it`);
    for (let path = real; !checked.has(path); path = dirname(path)) {
      check(path);
      checked.add(path);
    }
  }
  return manifest;
}

// ── polling ──────────────────────────────────────────────────────────────────────────────────────────────────────────

// Dawn polls for completion by calling the global setImmediate in a loop, which burns a core while anything is pending.
// On a software adapter that core is part of the GPU: a matmul runs at half its speed. So Dawn's own callbacks – native
// functions without a name – spin for a moment after each wait begins, for short work, and then come by timer. Tiny
// dispatches in a row are the exception: there the driver's threads mostly wake each other, which takes twice as long
// with both cores asleep (1,000 adds of 4,096 elements on 2 cores: 50 ms, 29 ms with one core awake). So where the last
// such row went fast, the next one is spun for.
const SPIN_MS = 0.3;
const TIMER_MS = 1;

/**
 * Between polls of a long row. Each poll leaves the garbage collector a native function, which takes longer to be rid
 * of than most.
 */
const PAUSE_MS = 0.05;

/**
 * A dispatch of a row that is worth spinning for takes no longer than this, polled by timer; and how many make a row.
 */
const TINY_MS = 0.1,
  ROW = 64;

/** Milliseconds to spin for `dispatches`, of which each took `pace` the last time. */
export function spinFor(dispatches: number, pace: number): number {
  return dispatches >= ROW && pace <= TINY_MS ? 2 * dispatches * TINY_MS : SPIN_MS;
}

let users = 0;
let waitStart = 0;
let spin = SPIN_MS;
/** Dispatches since the last wait began, and milliseconds that one took when a row was last waited for. */
let dispatched = 0;
let pace = Infinity;
let restore: (() => void) | undefined;

function acquirePolitePolling(globals: NodeGpuGlobals): void {
  if (users++ > 0) return;
  const unpatch = [
    noteWaits(globals.GPUQueue.prototype, 'onSubmittedWorkDone'),
    noteWaits(globals.GPUBuffer.prototype, 'mapAsync'),
    noteDispatches(globals.GPUComputePassEncoder.prototype),
  ];
  const original = globalThis.setImmediate;
  const polite = (callback: (...args: unknown[]) => void, ...args: unknown[]): unknown => {
    if (!isNative(callback)) return original(callback, ...args);
    const now = performance.now();
    if (now - waitStart > spin) return setTimeout(callback, TIMER_MS, ...args);
    if (spin > SPIN_MS) while (performance.now() - now < PAUSE_MS);
    return original(callback, ...args);
  };
  // The own properties carry setImmediate's promisified form.
  const patched = Object.defineProperties(polite, Object.getOwnPropertyDescriptors(original)) as typeof setImmediate;
  globalThis.setImmediate = patched;
  restore = () => {
    for (const undo of unpatch) undo();
    if (globalThis.setImmediate === patched) globalThis.setImmediate = original;
  };
}

function releasePolitePolling(): void {
  if (--users > 0) return;
  restore?.();
  restore = undefined;
}

function isNative(callback: unknown): boolean {
  return (
    typeof callback === 'function' &&
    callback.name === '' &&
    Function.prototype.toString.call(callback).includes('[native code]')
  );
}

/** Wraps a method so that each call marks the beginning of a wait, and its result the end; returns the undo. */
function noteWaits<K extends string>(
  prototype: Record<K, (...args: never[]) => Promise<unknown>>,
  name: K,
): () => void {
  const original = prototype[name];
  prototype[name] = function (this: unknown, ...args: never[]) {
    const row = dispatched,
      begun = (waitStart = performance.now());
    dispatched = 0;
    spin = spinFor(row, pace);
    const done = original.apply(this, args);
    if (row >= ROW)
      done.then(
        () => {
          pace = (performance.now() - begun) / row;
        },
        () => undefined,
      );
    return done;
  };
  return () => {
    prototype[name] = original;
  };
}

/** Counts dispatches; returns the undo. Called for every dispatch, so without a list of arguments. */
function noteDispatches(prototype: GPUComputePassEncoder): () => void {
  const original = prototype.dispatchWorkgroups;
  prototype.dispatchWorkgroups = function (this: GPUComputePassEncoder, x: number, y?: number, z?: number) {
    dispatched++;
    return original.call(this, x, y, z);
  };
  return () => {
    prototype.dispatchWorkgroups = original;
  };
}
