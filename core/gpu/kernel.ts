// A kernel is a name and a function from a variant (what is fixed at compile time) to WGSL. The engine writes what every
// kernel needs – bindings, parameters, entry point – and compiles each distinct source once per device.

import { CompileError, LimitError } from '../errors.ts';

export interface KernelBinding {
  readonly name: string;
  /** WGSL type, for example `array<vec4<f32>>`. */
  readonly type: string;
  /** `write` allows reading too. */
  readonly access: 'read' | 'write';
}

export interface KernelParam {
  readonly name: string;
  readonly type: 'u32' | 'i32' | 'f32';
}

export type KernelExtension = 'f16' | 'subgroups' | 'chromium_experimental_subgroup_matrix';

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
   * Whether one invocation may run the body for several values of `flat` (thread coarsening). The body then uses no other position than
   * `flat` and `wid.z`, and the grid comes from `grid1d`. Set it where the work of one value of `flat` is small.
   */
  readonly coarsenable?: boolean;
  /** Module scope: functions, constants, workgroup variables. */
  readonly declarations?: string;
  /**
   * Body of `main`. In scope: `gid`, `wid`, `lid` (vec3u), `li` (local index), `nwg` (vec3u), with `subgroups` also `lane`
   * and `sgSize`, with subgroup matrices `sgId` (the subgroup's index in the workgroup), and `flat`: the invocation's index in a
   * grid that `grid1d` made.
   */
  readonly body: string;
}

/** What a kernel may look at to choose its source. */
export interface KernelEnv {
  readonly limits: GPUSupportedLimits;
  has(feature: 'shader-f16' | 'subgroups' | 'timestamp-query' | 'subgroup-matrix'): boolean;
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
}

export interface Kernel<V> {
  readonly name: string;
  source(variant: V, env: KernelEnv): KernelSource;
}

/**
 * Defines a kernel. `source` must depend on its arguments alone; `variant` must survive JSON.
 */
export function defineKernel<V>(name: string, source: (variant: V, env: KernelEnv) => KernelSource): Kernel<V> {
  return { name, source };
}

/** A kernel's variant, ready to run. */
export interface Compiled {
  readonly name: string;
  /** Null while it is compiled ahead; `settled()` waits for that. */
  readonly pipeline: GPUComputePipeline | null;
  readonly layout: GPUBindGroupLayout;
  readonly source: KernelSource;
  /** Bytes of the parameters, 0 where there are none. */
  readonly paramBytes: number;
  /** Whether parameters travel in the command. Otherwise they are a uniform buffer behind the last binding. */
  readonly immediate: boolean;
  /** Whether an invocation runs the body as often as its last parameter says; `coarsenedGrid` gives the grid. */
  readonly coarsened: boolean;
  readonly id: number;
}

/** Bytes that `var<immediate>` may hold everywhere it exists. */
const IMMEDIATE_BYTES = 64;

/**
 * On a CPU, starting an invocation costs as much as two vec4 loads, so one invocation of a coarsenable kernel handles 4 items. Waking a second
 * core costs more than the work of up to 16 workgroups, so one workgroup handles all of theirs. 1,000 additions of 4,096 elements, a dispatch
 * each, took 0.74 and 0.91 of the time, large additions 0.65. 8 items an invocation gain little more.
 */
const ITEMS_PER_INVOCATION = 4,
  MERGED_WORKGROUPS = 16;

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
  const refuse = (needs: string, remedy = 'use its portable form'): never => {
    throw new LimitError(name, `This form of the kernel needs ${needs}`, { remedy });
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

/** What the compiler of kernels looks at beside. */
interface ComputingEnv extends KernelEnv {
  readonly adapter: { readonly software: boolean };
}

/** Compiles kernels for one device, each text once. */
export class KernelCache {
  private readonly gpu: GPUDevice;
  private readonly env: ComputingEnv;
  private readonly immediates: boolean;
  private readonly variants = new Map<string, Compiled>();
  private readonly texts = new Map<string, Compiled>();
  private readonly layouts = new Map<string, { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout }>();
  private readonly names = new Set<string>();
  private readonly onError: (error: Error) => void;
  private readonly checks = new Set<Promise<void>>();
  private nextId = 0;

  constructor(gpu: GPUDevice, env: ComputingEnv, immediates: boolean, onError: (error: Error) => void) {
    this.gpu = gpu;
    this.env = env;
    this.immediates = immediates;
    this.onError = onError;
  }

  /** Resolves when every compilation begun so far is done and checked. */
  async settled(): Promise<void> {
    await Promise.all(this.checks);
  }

  /** Distinct programs compiled so far. */
  get compiled(): number {
    return this.texts.size;
  }

  /** Names of the kernels of which a variant was compiled. */
  get kernelNames(): ReadonlySet<string> {
    return this.names;
  }

  /**
   * The compiled variant. Compilation errors come later, as the device's error. With `ahead` the pipeline is compiled beside others,
   * and may be run when `settled()` resolves.
   */
  get<V>(kernel: Kernel<V>, variant: V, ahead = false): Compiled {
    const key = `${kernel.name}:${JSON.stringify(variant)}`;
    const known = this.variants.get(key);
    if (known && (known.pipeline || ahead)) return known;
    const plain = kernel.source(variant, this.env),
      { params = [] } = plain;
    const coarsened = this.env.adapter.software && !!plain.coarsenable && params.length * 4 < IMMEDIATE_BYTES;
    const source: KernelSource = coarsened
      ? { ...plain, params: [...params, { name: 'itemsPerInvocation', type: 'u32' }] }
      : plain;
    checkSource(kernel.name, source, this.env);
    const paramBytes = (source.params?.length ?? 0) * 4;
    const immediate = this.immediates && paramBytes <= IMMEDIATE_BYTES;
    const text = moduleText(source, immediate, coarsened);
    const name = source.label ?? kernel.name;
    let compiled = this.texts.get(text);
    if (!compiled || !(compiled.pipeline || ahead)) {
      compiled = this.compile(name, source, text, { paramBytes, immediate, coarsened }, ahead);
      this.texts.set(text, compiled);
    } else if (compiled.name !== name) {
      // Shares the pipeline, which may be yet to come.
      compiled = Object.create(compiled, { name: { value: name } }) as Compiled;
    }
    this.variants.set(key, compiled);
    this.names.add(kernel.name);
    return compiled;
  }

  private compile(
    name: string,
    source: KernelSource,
    code: string,
    traits: Pick<Compiled, 'paramBytes' | 'immediate' | 'coarsened'>,
    ahead: boolean,
  ): Compiled {
    const { paramBytes, immediate } = traits;
    const { group, pipeline: layout } = this.layout(source, paramBytes, immediate);
    const refused = (reason: string): void => this.onError(new CompileError(name, reason, { listing: numbered(code) }));
    this.gpu.pushErrorScope('validation');
    const module = this.gpu.createShaderModule({ code, label: name });
    const descriptor: GPUComputePipelineDescriptor = { label: name, layout, compute: { module, entryPoint: 'main' } };
    const compiled: { -readonly [K in keyof Compiled]: Compiled[K] } = {
      name,
      pipeline: null,
      layout: group,
      source,
      ...traits,
      id: this.nextId++,
    };
    if (!ahead) compiled.pipeline = this.gpu.createComputePipeline(descriptor);
    this.checked(
      this.gpu.popErrorScope().then((error) => {
        if (error) refused(error.message);
      }),
    );
    if (ahead) {
      this.checked(
        this.gpu.createComputePipelineAsync(descriptor).then(
          (pipeline) => {
            compiled.pipeline = pipeline;
          },
          (error: Error) => {
            if (error.name !== 'AbortError') refused(error.message);
          },
        ),
      );
    }
    return compiled;
  }

  private checked(done: Promise<void>): void {
    // Where the device was lost, whoever waits for it is told so.
    const check: Promise<void> = done.catch(() => {}).finally(() => this.checks.delete(check));
    this.checks.add(check);
  }

  private layout(
    source: KernelSource,
    paramBytes: number,
    immediate: boolean,
  ): { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout } {
    const uniform = paramBytes > 0 && !immediate;
    const key = source.bindings.map((b) => b.access[0]).join('') + (uniform ? 'u' : immediate ? paramBytes : '');
    let layout = this.layouts.get(key);
    if (!layout) {
      const COMPUTE = 4;
      const entries: GPUBindGroupLayoutEntry[] = source.bindings.map((b, binding) => ({
        binding,
        visibility: COMPUTE,
        buffer: { type: b.access === 'read' ? 'read-only-storage' : 'storage' },
      }));
      if (uniform) entries.push({ binding: entries.length, visibility: COMPUTE, buffer: { type: 'uniform' } });
      const group = this.gpu.createBindGroupLayout({ entries });
      const descriptor: GPUPipelineLayoutDescriptor = { bindGroupLayouts: [group] };
      if (immediate && paramBytes > 0) descriptor.immediateSize = paramBytes;
      layout = { group, pipeline: this.gpu.createPipelineLayout(descriptor) };
      this.layouts.set(key, layout);
    }
    return layout;
  }
}

function numbered(code: string): string {
  return code
    .split('\n')
    .map((line, i) => `${String(i + 1).padStart(4)}  ${line}`)
    .join('\n');
}

/** A grid of one index: workgroups as [x, y, 1] within the limit of 65,535 a dimension. Use `flat` in the kernel. */
export function grid1d(items: number, perGroup: number): [number, number, number] {
  return gridOf(Math.ceil(items / perGroup));
}

function gridOf(groups: number): [number, number, number] {
  if (groups <= 65535) return [groups, 1, 1];
  const y = Math.ceil(groups / 65535);
  return [Math.ceil(groups / y), y, 1];
}

/** How many items an invocation of a coarsenable kernel handles, and the grid for that, from the grid for one item an invocation. */
export function coarsenedGrid(x: number, y: number): [itemsPerInvocation: number, x: number, y: number] {
  const items = x * y <= MERGED_WORKGROUPS ? Math.max(1, x * y) : ITEMS_PER_INVOCATION;
  const [nx, ny] = gridOf(Math.ceil((x * y) / items));
  return [items, nx, ny];
}
