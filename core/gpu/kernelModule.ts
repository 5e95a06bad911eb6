// The WGSL module of a kernel source: what the engine writes around a kernel's body, and the check that an adapter
// takes it.

import { LimitError } from '../errors.ts';
import type { KernelEnv, KernelSource } from './kernel.ts';

/** The whole module of a kernel source. */
export function moduleText(source: KernelSource, immediate: boolean, coarsened = false): string {
  const lines: string[] = [];
  for (const extension of source.enable ?? []) lines.push(`enable ${extension};`);
  const params = source.params ?? [];
  if (params.length && immediate) lines.push('requires immediate_address_space;');
  source.bindings.forEach((b, i) => {
    lines.push(
      `@group(0) @binding(${i}) var<storage, ${b.access === 'read' ? 'read' : 'read_write'}> ${b.name}: ${b.type};`,
    );
  });
  if (params.length) {
    lines.push(`struct Params { ${params.map((q) => `${q.name}: ${q.type}`).join(', ')} }`);
    lines.push(
      immediate ? 'var<immediate> p: Params;' : `@group(0) @binding(${source.bindings.length}) var<uniform> p: Params;`,
    );
  }
  if (source.declarations) lines.push(source.declarations);
  const [x, y = 1, z = 1] = source.workgroupSize;
  const subgroups = source.enable?.includes('subgroups') ?? false;
  const matrices = source.enable?.includes('chromium_experimental_subgroup_matrix') ?? false;
  lines.push(`@compute @workgroup_size(${x}, ${y}, ${z})
fn main(@builtin(global_invocation_id) gid: vec3u, @builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_id) lid: vec3u,
  @builtin(local_invocation_index) li: u32, @builtin(num_workgroups) nwg: vec3u${
    subgroups ? ',\n  @builtin(subgroup_invocation_id) lane: u32, @builtin(subgroup_size) sgSize: u32' : ''
  }${matrices ? ', @builtin(subgroup_id) sgId: u32' : ''}) {`);
  const invocations = x * y * z;
  if (coarsened) {
    // A function, because the body may return.
    lines.splice(-1, 0, `fn invocation(flat: u32, wid: vec3u) {\n${source.body}\n}`);
    lines.push(
      `  let first = (wid.y * nwg.x + wid.x) * (p.itemsPerInvocation * ${invocations}u) + li;
  for (var item = 0u; item < p.itemsPerInvocation; item++) { invocation(first + item * ${invocations}u, wid); }`,
      '}',
    );
    return lines.join('\n');
  }
  if (/\bflat\b/.test(source.body)) lines.push(`  let flat = (wid.y * nwg.x + wid.x) * ${invocations}u + li;`);
  lines.push(source.body, '}');
  return lines.join('\n');
}

/** Refuses, in words, a source that the adapter's limits or features don't allow. */
export function checkSource(name: string, source: KernelSource, env: KernelEnv): void {
  const refuse = (what: string, instead = 'use its portable form'): never => {
    throw new LimitError(name, `This form of the kernel needs ${what}`, { remedy: `${instead}` });
  };
  const { limits } = env;
  if (source.bindings.length > limits.maxStorageBuffersPerShaderStage) {
    refuse(`${source.bindings.length} storage buffers, the adapter allows ${limits.maxStorageBuffersPerShaderStage}`);
  }
  const [x, y = 1, z = 1] = source.workgroupSize;
  if (x * y * z > limits.maxComputeInvocationsPerWorkgroup) {
    refuse(`${x * y * z} invocations a workgroup, the adapter allows ${limits.maxComputeInvocationsPerWorkgroup}`);
  }
  if ((source.workgroupBytes ?? 0) > limits.maxComputeWorkgroupStorageSize) {
    refuse(
      `${source.workgroupBytes} bytes of workgroup memory, the adapter allows ${limits.maxComputeWorkgroupStorageSize}`,
    );
  }
  for (const extension of source.enable ?? []) {
    if (extension === 'f16' && !env.has('shader-f16')) refuse('the feature shader-f16', 'cast() to f32');
    if (extension === 'subgroups' && !env.has('subgroups')) refuse('the feature subgroups');
    if (extension.endsWith('subgroup_matrix') && !env.has('subgroup-matrix')) refuse('subgroup matrices');
  }
}
