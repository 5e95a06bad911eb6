// Bind groups and uniform buffers, found again by what they hold: to create one costs more than to encode the dispatch.

import { USAGE } from './flags.ts';
import type { Compiled } from './kernelCache.ts';
import type { Bound } from './recorder.ts';
import type { GPUBindGroup, GPUBuffer, GPUDevice } from './webgpu.ts';

/** Bind groups that are kept, after which all are forgotten: those in use are made again. */
const MOST_GROUPS = 20_000;
const MOST_UNIFORMS = 4096;

/** Values found by numbers that are compared one by one. */
class NumberMap<T> {
  private readonly buckets = new Map<number, { readonly key: Float64Array; readonly value: T }[]>();
  private entries = 0;

  get size(): number {
    return this.entries;
  }

  /** @param key the first `length` numbers of a scratch array */
  get(hash: number, key: Float64Array, length: number): T | undefined {
    const bucket = this.buckets.get(hash);
    if (bucket) for (const entry of bucket) if (same(entry.key, key, length)) return entry.value;
    return undefined;
  }

  set(hash: number, key: Float64Array, length: number, value: T): void {
    const entry = { key: key.slice(0, length), value };
    const bucket = this.buckets.get(hash);
    if (bucket) bucket.push(entry);
    else this.buckets.set(hash, [entry]);
    this.entries++;
  }

  clear(): void {
    this.buckets.clear();
    this.entries = 0;
  }
}

function same(a: Float64Array, b: Float64Array, length: number): boolean {
  if (a.length !== length) return false;
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function hashOf(key: Float64Array, length: number): number {
  let hash = length;
  for (let i = 0; i < length; i++) hash = Math.imul(hash ^ key[i], 0x9e3779b1) ^ (hash >>> 15);
  return hash;
}

export class BindGroups {
  private readonly gpu: GPUDevice;
  private readonly groups = new NumberMap<GPUBindGroup>();
  private readonly uniforms = new NumberMap<GPUBuffer>();
  private scratch = new Float64Array(64);

  constructor(gpu: GPUDevice) {
    this.gpu = gpu;
  }

  /** The bind group of a kernel with these buffers, and its parameters where they don't travel in the command. */
  get(compiled: Compiled, bound: readonly Bound[], params: ArrayBuffer): GPUBindGroup {
    const words = compiled.paramBytes > 0 && !compiled.immediate ? new Uint32Array(params) : null;
    const length = 1 + 3 * bound.length + (words?.length ?? 0);
    if (this.scratch.length < length) this.scratch = new Float64Array(2 * length);
    const key = this.scratch;
    let at = 0;
    key[at++] = compiled.id;
    for (const { storage, offset, bytes } of bound) {
      key[at++] = storage.buffer.id;
      key[at++] = offset;
      key[at++] = bytes;
    }
    if (words) for (const word of words) key[at++] = word;
    const hash = hashOf(key, length);
    let group = this.groups.get(hash, key, length);
    if (!group) {
      if (this.groups.size >= MOST_GROUPS) this.groups.clear();
      const buffers = bound.map((b) => ({ buffer: b.storage.buffer.gpu, offset: b.offset, size: b.bytes }));
      const saved = key.slice(0, length);
      // Where a new buffer turns out to have no memory, the error of the allocation says it; that of the group would be
      // told to anybody.
      const fresh = bound.some((b) => !b.storage.buffer.checked);
      if (fresh) this.gpu.pushErrorScope('validation');
      group = this.make(compiled, buffers, words ? this.uniform(params) : null);
      if (fresh) this.gpu.popErrorScope().catch(() => null);
      this.groups.set(hash, saved, length, group);
    }
    return group;
  }

  /** A new bind group, for what keeps its own (capture). */
  make(
    compiled: Compiled,
    buffers: readonly { buffer: GPUBuffer; offset?: number; size?: number }[],
    uniform: GPUBuffer | null,
  ): GPUBindGroup {
    const entries: GPUBindGroupEntry[] = buffers.map((resource, binding) => ({ binding, resource }));
    if (uniform) entries.push({ binding: entries.length, resource: { buffer: uniform } });
    return this.gpu.createBindGroup({ layout: compiled.layout, entries });
  }

  /** A uniform buffer with this content. Its content never changes, so that it may be shared and replayed. */
  uniform(data: ArrayBuffer): GPUBuffer {
    const key = Float64Array.from(new Uint32Array(data));
    const hash = hashOf(key, key.length);
    let buffer = this.uniforms.get(hash, key, key.length);
    if (!buffer) {
      // Bind groups hold on to the buffers that they use, so the cache may forget its own.
      if (this.uniforms.size >= MOST_UNIFORMS) this.uniforms.clear();
      const size = Math.ceil(data.byteLength / 16) * 16;
      buffer = this.gpu.createBuffer({ size, usage: USAGE.UNIFORM | USAGE.COPY_DST });
      this.gpu.queue.writeBuffer(buffer, 0, data);
      this.uniforms.set(hash, key, key.length, buffer);
    }
    return buffer;
  }

  /** Forgets all bind groups, so that the buffers in them can go. */
  clear(): void {
    this.groups.clear();
  }
}
