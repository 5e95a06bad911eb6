// Opens an adapter's device: Dawn under Node, navigator.gpu in browsers, behind one function.

import { AdapterError } from '../errors.ts';
import type { Tier } from './adapter.ts';
import { Device } from './device.ts';
import type { GPUPowerPreference } from './webgpu.ts';

export interface AdapterOptions {
  /**
   * `stock`: what the implementation offers by itself. `fast`: with Dawn's toggles for f16 on NVIDIA and subgroup
   * matrices.
   */
  tier?: Tier;
  /** Take an adapter that computes on the CPU. */
  forceFallback?: boolean;
  /** Part of the adapter's name (Node only). */
  adapter?: string;
  /** `null` opens an adapter that validates and runs nothing (Node only). */
  backend?: 'null' | (string & {});
  powerPreference?: GPUPowerPreference;
  /** Ask for WebGPU's default limits instead of the adapter's. */
  defaultLimits?: boolean;
  /** Features to do without, for example `['subgroups']`. */
  without?: readonly string[];
  /** Dawn's toggles to switch on beside those of the tier, for measurements (Node only). */
  toggles?: readonly string[];
}

const FEATURES = ['shader-f16', 'subgroups', 'timestamp-query', 'chromium-experimental-subgroup-matrix'] as const;
const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupSizeZ',
] as const;

interface Instance {
  gpu: GPU;
  release(): void;
  software?: boolean;
}

/**
 * Opens a device with the adapter's largest limits and all features that the engine can use.
 *
 * @throws AdapterError where there is no WebGPU, or no adapter that fits
 */
export async function openGpu(options: AdapterOptions = {}): Promise<Device> {
  const tier = options.tier ?? 'stock';
  const instance = await openInstance(options, tier);
  try {
    const adapter = await instance.gpu.requestAdapter({
      powerPreference: options.powerPreference ?? 'high-performance',
      // Dawn under Node finds no fallback adapter on lavapipe, which is one: there the name decides.
      ...(options.forceFallback && instance.software !== true && { forceFallbackAdapter: true }),
    });
    if (!adapter) {
      throw new AdapterError('openDevice', 'WebGPU found no adapter', {
        expected: 'a GPU with a Vulkan, Metal or D3D12 driver',
        remedy: 'run `npx dis-cli setup`, which provides a software driver or says what to install',
      });
    }
    const wanted = FEATURES.filter(
      (feature) =>
        adapter.features.has(feature) &&
        !options.without?.includes(feature) &&
        (tier === 'fast' || feature !== 'chromium-experimental-subgroup-matrix'),
    );
    const requiredLimits: Record<string, number> = {};
    if (!options.defaultLimits) for (const limit of LIMITS) requiredLimits[limit] = adapter.limits[limit];
    const gpu = await adapter.requestDevice({
      requiredFeatures: wanted as unknown as GPUFeatureName[],
      requiredLimits,
    });
    const { vendor, architecture, device, description } = adapter.info;
    const immediates = instance.gpu.wgslLanguageFeatures?.has('immediate_address_space') ?? false;
    return new Device(
      gpu,
      {
        vendor,
        architecture,
        device,
        description,
        software: instance.software ?? adapter.info.isFallbackAdapter ?? false,
        backend: options.backend === 'null' ? 'null' : inNode() ? 'node' : 'browser',
      },
      { tier, immediates: immediates && !options.defaultLimits, info: adapter.info, release: () => instance.release() },
    );
  } catch (error) {
    instance.release();
    throw error;
  }
}

async function openInstance(options: AdapterOptions, tier: Tier): Promise<Instance> {
  if (inNode()) {
    const { openNodeGpu } = await import('./node.ts');
    const toggles = [
      ...(tier === 'fast' ? ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'] : []),
      ...(options.toggles ?? []),
    ];
    const node = await openNodeGpu({
      toggles,
      ...(options.backend !== undefined && { backend: options.backend }),
      ...(options.adapter !== undefined && { adapterName: options.adapter }),
    });
    return { gpu: node.gpu, release: () => node.release(), software: node.software };
  }
  const gpu = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  if (!gpu) {
    throw new AdapterError('openDevice', 'This browser has no navigator.gpu', {
      expected: 'WebGPU',
      remedy: 'use a recent Chrome, Edge, Safari or Firefox, over https',
    });
  }
  return { gpu, release: () => undefined };
}

function inNode(): boolean {
  return typeof (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node === 'string';
}
