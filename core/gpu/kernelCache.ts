// Compiles kernels for one device, each text once, and finds a variant again without making a text of it.

import { STAGE } from './flags.ts';
import type { Kernel, KernelEnv, KernelSource } from './kernel.ts';
import { diagnose } from './compileError.ts';
import { checkSource, moduleText } from './kernelModule.ts';
import { StructuralMap } from './structuralMap.ts';
import type { GPUBindGroupLayout, GPUComputePipeline, GPUDevice } from './webgpu.ts';

/** How a compilation went. */
export interface Verdict {
  /** Whether it is known; that takes a moment. */
  readonly known: boolean;
  readonly failure: Error | null;
}

/** A kernel's variant, ready to run. */
export interface Compiled {
  readonly name: string;
  readonly verdict: Verdict;
  /** Null while it is compiled ahead, for which `settled()` waits, and where it was refused. */
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

/** What the compiler of kernels looks at beside. */
interface ComputingEnv extends KernelEnv {
  readonly adapter: { readonly software: boolean };
}

/** Variants of one kernel that are kept; more than that, and they are looked up by their text again. */
const MOST_VARIANTS = 4096;

/** What is compiled of one kernel. */
interface Variants {
  /** By the variant object itself, where it is frozen: its owner keeps it and hands it in again. */
  readonly byIdentity: WeakMap<object, Compiled>;
  readonly byContent: StructuralMap<Compiled>;
}

/** Compiles kernels for one device, each text once. */
export class KernelCache {
  private readonly gpu: GPUDevice;
  private readonly env: ComputingEnv;
  private readonly immediates: boolean;
  private readonly variants = new WeakMap<object, Variants>();
  private readonly texts = new Map<string, Compiled>();
  private readonly layouts = new Map<string, { group: GPUBindGroupLayout; pipeline: GPUPipelineLayout }>();
  private readonly names = new Set<string>();
  private readonly checks = new Set<Promise<void>>();
  private nextId = 0;

  constructor(gpu: GPUDevice, env: ComputingEnv, immediates: boolean) {
    this.gpu = gpu;
    this.env = env;
    this.immediates = immediates;
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
   * The compiled variant. Whether the compiler takes it is known later: then `verdict` says so. With `ahead` the
   * pipeline is compiled beside others, and may be run when `settled()` resolves.
   *
   * @throws CompileError where it is known that the compiler refuses it
   */
  get<V extends object>(kernel: Kernel<V>, variant: V, ahead = false): Compiled {
    let variants = this.variants.get(kernel);
    if (!variants) {
      variants = { byIdentity: new WeakMap(), byContent: new StructuralMap(MOST_VARIANTS) };
      this.variants.set(kernel, variants);
    }
    let known = variants.byIdentity.get(variant);
    if (known && (known.pipeline || ahead)) return known;
    known = variants.byContent.get(variant);
    if (known?.verdict.failure) throw known.verdict.failure;
    if (!known || !(known.pipeline || ahead)) {
      known = this.make(kernel, variant, ahead);
      variants.byContent.set(variant, known);
    }
    if (Object.isFrozen(variant)) variants.byIdentity.set(variant, known);
    return known;
  }

  private make<V extends object>(kernel: Kernel<V>, variant: V, ahead: boolean): Compiled {
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
    if (compiled?.verdict.failure) throw compiled.verdict.failure;
    if (!compiled || !(compiled.pipeline || ahead)) {
      compiled = this.compile(name, source, text, { paramBytes, immediate, coarsened }, ahead);
      this.texts.set(text, compiled);
    } else if (compiled.name !== name) {
      // Shares the pipeline, which may be yet to come.
      compiled = Object.create(compiled, { name: { value: name } }) as Compiled;
    }
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
    this.gpu.pushErrorScope('validation');
    const module = this.gpu.createShaderModule({ code, label: name });
    const descriptor: GPUComputePipelineDescriptor = { label: name, layout, compute: { module, entryPoint: 'main' } };
    const verdict: { -readonly [K in keyof Verdict]: Verdict[K] } = { known: false, failure: null };
    const compiled: { -readonly [K in keyof Compiled]: Compiled[K] } = {
      name,
      pipeline: null,
      verdict,
      layout: group,
      source,
      ...traits,
      id: this.nextId++,
    };
    const refused = async (reason: string): Promise<void> => {
      compiled.pipeline = null;
      verdict.failure = await diagnose(module, { name, source, code, reason });
    };
    if (!ahead) compiled.pipeline = this.gpu.createComputePipeline(descriptor);
    const checks: Promise<void>[] = [
      this.gpu.popErrorScope().then((error) => (error ? refused(error.message) : undefined)),
    ];
    if (ahead)
      checks.push(
        this.gpu.createComputePipelineAsync(descriptor).then(
          (pipeline) => {
            compiled.pipeline = pipeline;
          },
          (error: Error) => (error.name === 'AbortError' ? undefined : refused(error.message)),
        ),
      );
    this.checked(
      Promise.all(checks).finally(() => {
        verdict.known = true;
      }),
    );
    return compiled;
  }

  private checked(done: Promise<unknown>): void {
    // Where the device was lost, whoever waits for it is told so.
    const check: Promise<void> = done.then(
      () => undefined,
      () => undefined,
    );
    void check.then(() => this.checks.delete(check));
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
      const entries: GPUBindGroupLayoutEntry[] = source.bindings.map((b, binding) => ({
        binding,
        visibility: STAGE.COMPUTE,
        buffer: { type: b.access === 'read' ? 'read-only-storage' : 'storage' },
      }));
      if (uniform) entries.push({ binding: entries.length, visibility: STAGE.COMPUTE, buffer: { type: 'uniform' } });
      const group = this.gpu.createBindGroupLayout({ entries });
      const descriptor: GPUPipelineLayoutDescriptor = { bindGroupLayouts: [group] };
      if (immediate && paramBytes > 0) descriptor.immediateSize = paramBytes;
      layout = { group, pipeline: this.gpu.createPipelineLayout(descriptor) };
      this.layouts.set(key, layout);
    }
    return layout;
  }
}
