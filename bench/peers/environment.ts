// A browser's WebGPU for engines that expect one: the project's own adapter as navigator.gpu, and what Dawn's bindings for Node take
// otherwise than browsers do.

import { openNodeGpu } from '../../core/gpu/node.ts';

export interface Environment {
  /** Whether the adapter computes on the CPU. */
  readonly software: boolean;
  readonly adapter: string;
  /** Waits until the queue of the engine's device is empty. */
  wait(): Promise<void>;
  close(): void;
}

type Writer = (
  buffer: GPUBuffer,
  at: number,
  data: ArrayBufferView | ArrayBuffer,
  begin?: number,
  size?: number,
) => undefined;

/** Sets up `navigator.gpu` and the constants of WebGPU for this process. Import the engine afterwards. */
export async function browserEnvironment(): Promise<Environment> {
  const { gpu, globals, software, release } = await openNodeGpu();
  Object.assign(globalThis, globals);
  const scope = globalThis as { self?: unknown; navigator?: object };
  scope.self ??= globalThis;
  if (!scope.navigator)
    Object.defineProperty(globalThis, 'navigator', {
      value: { userAgent: 'Node.js', hardwareConcurrency: 2, language: 'en' },
      configurable: true,
      writable: true,
    });
  Object.defineProperty(globalThis.navigator, 'gpu', { value: gpu, configurable: true });

  let device: GPUDevice | null = null;
  const Adapter = (globals as unknown as { GPUAdapter: { prototype: GPUAdapter } }).GPUAdapter;
  const requestDevice = Adapter.prototype.requestDevice;
  Adapter.prototype.requestDevice = async function (descriptor = {}) {
    // TensorFlow.js nests the list, which Dawn takes for the name of a feature.
    const requiredFeatures = [descriptor.requiredFeatures ?? []].flat(3) as GPUFeatureName[];
    return (device = await requestDevice.call(this, { ...descriptor, requiredFeatures }));
  };
  // Dawn for Node refuses views of shared memory, which the heaps of WebAssembly threads are.
  const queue = globals.GPUQueue.prototype as unknown as { writeBuffer: Writer };
  const writeBuffer = queue.writeBuffer;
  queue.writeBuffer = function (this: GPUQueue, buffer, at, data, begin = 0, size) {
    const view = ArrayBuffer.isView(data) ? data : null;
    const each = view && 'BYTES_PER_ELEMENT' in view ? (view.BYTES_PER_ELEMENT as number) : 1;
    const from = (view?.byteOffset ?? 0) + begin * each;
    const bytes = size === undefined ? data.byteLength - begin * each : size * each;
    const memory = view ? view.buffer : (data as ArrayBuffer);
    return writeBuffer.call(
      this,
      buffer,
      at,
      memory instanceof ArrayBuffer ? new Uint8Array(memory, from, bytes) : new Uint8Array(memory, from, bytes).slice(),
    );
  };

  const adapter = await gpu.requestAdapter();
  return {
    software,
    adapter: adapter ? adapter.info.description || adapter.info.device : 'none',
    wait: async () => {
      await device?.queue.onSubmittedWorkDone();
    },
    close: () => {
      device?.destroy();
      release();
    },
  };
}
