// WebGPU's interfaces by their names, for the types that the package exports. TypeScript has them as globals only where a program brings
// them: by @webgpu/types, or by a newer lib.dom. So a name is that global where there is one, which a page's own code then fits; elsewhere
// it is what the engine shows of it, and the package's types stand alone.

type Known<Name extends string, Otherwise> = typeof globalThis extends { [K in Name]: { prototype: infer T } }
  ? T
  : Otherwise;

/** What every object of WebGPU has. */
interface Labelled {
  label: string;
}

export type GPUBuffer = Known<
  'GPUBuffer',
  Labelled & { readonly size: number; readonly usage: number; destroy(): undefined }
>;
export type GPUBindGroup = Known<'GPUBindGroup', Labelled>;
export type GPUBindGroupLayout = Known<'GPUBindGroupLayout', Labelled>;
export type GPUCommandEncoder = Known<'GPUCommandEncoder', Labelled>;
export type GPUComputePassEncoder = Known<'GPUComputePassEncoder', Labelled>;
export type GPUComputePipeline = Known<'GPUComputePipeline', Labelled>;
export type GPUShaderModule = Known<'GPUShaderModule', Labelled>;
export type GPUSupportedLimits = Known<'GPUSupportedLimits', { readonly [limit: string]: number }>;
export type GPUAdapterInfo = Known<
  'GPUAdapterInfo',
  Readonly<Record<'vendor' | 'architecture' | 'device' | 'description', string>>
>;
export type GPUDevice = Known<
  'GPUDevice',
  Labelled & {
    readonly features: ReadonlySet<string>;
    readonly limits: GPUSupportedLimits;
    readonly adapterInfo: GPUAdapterInfo;
    readonly lost: Promise<{ readonly reason: string; readonly message: string }>;
    destroy(): undefined;
  }
>;
export type GPUPowerPreference = 'low-power' | 'high-performance';
