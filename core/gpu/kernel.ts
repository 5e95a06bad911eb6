// A kernel is a name and a function from a variant (what is fixed at compile time) to WGSL. The engine writes what
// every kernel needs: bindings, parameters, entry point (kernelModule.ts); each distinct source is compiled once per
// device (kernelCache.ts).

import type { Feature } from './adapter.ts';
import type { GPUSupportedLimits } from './webgpu.ts';

/** A storage buffer that a kernel reads or writes. */
export interface KernelBinding {
  readonly name: string;
  /** WGSL type, for example `array<vec4<f32>>`. */
  readonly type: string;
  /** `write` allows reading too. */
  readonly access: 'read' | 'write';
}

/** A number that a dispatch gives, read in WGSL as `p.name`. */
export interface KernelParam {
  readonly name: string;
  readonly type: 'u32' | 'i32' | 'f32';
}

/** Extensions of WGSL that a kernel may enable. */
export type KernelExtension = 'f16' | 'subgroups' | 'chromium_experimental_subgroup_matrix';

/** What a kernel is for one variant: its operands, its grid and its WGSL. The engine writes bindings and entry point. */
export interface KernelSource {
  /** What a profile calls it; the kernel's name if not given. */
  readonly label?: string;
  readonly bindings: readonly KernelBinding[];
  /** Scalars, read in WGSL as `p.name`. They change from dispatch to dispatch without a new pipeline. */
  readonly params?: readonly KernelParam[];
  readonly workgroupSize: readonly [number, number?, number?];
  readonly enable?: readonly KernelExtension[];
  /** Bytes of workgroup memory, for the check against the adapter's limit. */
  readonly workgroupBytes?: number;
  /**
   * Whether one invocation may run the body for several values of `flat` (thread coarsening). The body then uses no
   * other position than `flat` and `wid.z`, and the grid comes from `grid1d`. Set it where the work of one value of
   * `flat` is small.
   */
  readonly coarsenable?: boolean;
  /** Module scope: functions, constants, workgroup variables. */
  readonly declarations?: string;
  /**
   * Body of `main`. In scope: `gid`, `wid`, `lid` (vec3u), `li` (local index), `nwg` (vec3u), with `subgroups` also
   * `lane` and `sgSize`, with subgroup matrices `sgId` (the subgroup's index in the workgroup), and `flat`: the
   * invocation's index in a grid that `grid1d` made.
   */
  readonly body: string;
}

/** What a kernel may look at to choose its source. */
export interface KernelEnv {
  readonly limits: GPUSupportedLimits;
  /** Whether the device has an optional feature. */
  has(feature: Feature): boolean;
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
}

/** A kernel, as `defineKernel` makes it: a name, and a function from variants to sources. */
export interface Kernel<V extends object> {
  readonly name: string;
  source(variant: V, env: KernelEnv): KernelSource;
}

/**
 * Defines a kernel. `source` must depend on its arguments alone. A variant is plain data: strings, numbers, booleans,
 * arrays and objects of them, and objects of classes, which are told apart by identity.
 */
export function defineKernel<V extends object>(
  name: string,
  source: (variant: V, env: KernelEnv) => KernelSource,
): Kernel<V> {
  return { name, source };
}
