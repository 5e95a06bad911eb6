// `dis-cli doctor`: what the engine finds on this machine, whether it computes right, and what to do about what is
// missing.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Command } from 'commander';
import type { Device } from '../../core/index.ts';
import { scope, tensor } from '../../core/index.ts';
import { listGpus, type Gpu } from '../distributed/gpus.ts';
import { EXIT, UsageError, describeFailure } from '../errors.ts';
import { bytes, grouped } from '../format.ts';
import { invocation } from '../invocation.ts';
import { adapterFlags, openCliDevice, type AdapterOptions } from '../openCliDevice.ts';
import { print, printable, printableJson } from '../printable.ts';
import { describeTuning, loadTuning } from '../tuningCache.ts';

interface DoctorOptions extends AdapterOptions {
  readonly json?: boolean;
}

/** What the report consists of; `--json` prints it as it is. */
interface Report {
  readonly node: string;
  readonly platform: string;
  readonly webgpu: string;
  readonly driverFile: string | undefined;
  adapter?: Device['adapter'] & { readonly tier: string };
  features?: Record<string, boolean | string>;
  limits?: Record<string, number>;
  /** Which kernels it computes with. */
  kernels?: { readonly measured: string; readonly shipped: string };
  /** Every GPU with its address, and what trains on several. */
  readonly gpus: readonly Pick<Gpu, 'address' | 'name'>[];
  readonly mpi: string;
  /** Whether a kernel gave the right numbers. */
  computes?: boolean;
  problem?: string;
  advice: string[];
}

const FEATURES: readonly (readonly [name: Parameters<Device['has']>[0], use: string, remedy: string])[] = [
  ['shader-f16', '--precision f16', 'a newer driver may offer it; on NVIDIA use --tier fast'],
  ['subgroups', 'faster reductions and products', 'a newer driver may offer it'],
  ['timestamp-query', 'GPU times in profiles and benchmarks', 'a newer driver may offer it'],
  ['subgroup-matrix', 'tensor cores', 'use --tier fast on a GPU that has them'],
];

const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupsPerDimension',
] as const;

export function doctorCommand(): Command {
  const command = new Command('doctor').description(
    'report the GPU adapter, its features and limits, and what to do about what is missing',
  );
  for (const option of adapterFlags()) command.addOption(option);
  return command.option('--json', 'print the report as JSON').action(async (options: DoctorOptions) => {
    const report = await examine(options);
    print(options.json ? printableJson(report, 2) : render(report));
    if (report.problem !== undefined) process.exitCode = EXIT.gpu;
  });
}

async function examine(options: DoctorOptions): Promise<Report> {
  const report: Report = {
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    webgpu: packageVersion('webgpu'),
    driverFile: undefined,
    gpus: (await listGpus()).map(({ address, name }) => ({ address, name })),
    mpi: await describeMpi(),
    advice: [],
  };
  let device: Device;
  try {
    device = await openCliDevice(options);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    return { ...report, driverFile: driverFile(), problem: describeFailure(error).message, advice: [installAdvice()] };
  }
  try {
    const features = Object.fromEntries(FEATURES.map(([name]) => [name, device.has(name)]));
    const { subgroupMinSize, subgroupMaxSize } = device;
    await loadTuning(device);
    return {
      ...report,
      driverFile: driverFile(),
      adapter: { ...device.adapter, tier: device.tier },
      features: {
        ...features,
        ...(subgroupMaxSize > 0 && {
          subgroupSize:
            subgroupMinSize === subgroupMaxSize ? `${subgroupMaxSize}` : `${subgroupMinSize} to ${subgroupMaxSize}`,
        }),
      },
      limits: Object.fromEntries(LIMITS.map((name) => [name, device.limits[name]])),
      kernels: describeTuning(device),
      ...(await smoke(device)),
      advice: advise(device),
    };
  } finally {
    device.destroy();
  }
}

/** Open MPI's version, or what is missing. */
async function describeMpi(): Promise<string> {
  try {
    const { MpiLibrary } = await import('../distributed/mpi.ts');
    const { version, file } = await MpiLibrary.load();
    return `${version.split(',')[0]} (${file})`;
  } catch (error) {
    return `none: ${describeFailure(error).message}`;
  }
}

/** Multiplies two small matrices of whole numbers and compares every value. */
async function smoke(device: Device): Promise<Pick<Report, 'computes' | 'problem'>> {
  const n = 24;
  const a = Float32Array.from({ length: n * n }, (_, i) => (i % 7) - 3),
    b = Float32Array.from({ length: n * n }, (_, i) => (i % 5) - 2);
  try {
    const product = scope(() => tensor(device, a, { shape: [n, n] }).matmul(tensor(device, b, { shape: [n, n] })));
    const values = await product.data();
    product.dispose();
    const right = Array.from(values).every((value, at) => {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += a[Math.floor(at / n) * n + k] * b[k * n + (at % n)];
      return value === sum;
    });
    return right
      ? { computes: true }
      : {
          computes: false,
          problem: 'The adapter computes wrong numbers; update its driver, or choose another adapter with --adapter.',
        };
  } catch (error) {
    return { computes: false, problem: describeFailure(error).message };
  }
}

function advise(device: Device): string[] {
  const advice: string[] = [];
  if (device.adapter.software) {
    advice.push(
      existsSync('/dev/dri/renderD128')
        ? `This adapter computes on the CPU though the machine has a GPU: ${installAdvice()} Then run \`${invocation('setup', '--force')}\`.`
        : 'This adapter computes on the CPU, which is right for tests and small models; training a larger one wants a GPU.',
    );
  }
  if (!device.has('shader-f16'))
    advice.push('--precision f16 needs shader-f16: a newer driver may offer it, and on NVIDIA --tier fast does.');
  return advice;
}

function installAdvice(): string {
  if (process.platform === 'darwin')
    return 'Metal is part of macOS 13 and later; run outside of virtual machines that hide the GPU.';
  if (process.platform === 'win32') return 'Install the current graphics driver of your GPU (Direct3D 12).';
  return (
    `Install the Vulkan driver of your GPU, or run \`${invocation('setup')}\`, which provides a software driver on Debian and ` +
    'Ubuntu and says what to install elsewhere.'
  );
}

/** The Vulkan driver file that decides, which core/gpu/node.ts sets for the project's own driver. */
function driverFile(): string | undefined {
  return process.env.VK_DRIVER_FILES || process.env.VK_ICD_FILENAMES || undefined;
}

function packageVersion(name: string): string {
  try {
    return (createRequire(import.meta.url)(`${name}/package.json`) as { version: string }).version;
  } catch {
    return 'not installed';
  }
}

function render(report: Report): string {
  const lines: string[] = [];
  const section = (title: string, rows: readonly (readonly [string, string])[]): void => {
    const width = Math.max(...rows.map(([name]) => name.length));
    lines.push(title, ...rows.map(([name, value]) => `  ${name.padEnd(width)}  ${printable(value)}`), '');
  };
  const { adapter, features, limits } = report;
  if (adapter) {
    const rows: (readonly [string, string])[] = [
      ['name', adapter.device || adapter.description || adapter.vendor],
      ['vendor', [adapter.vendor, adapter.architecture].filter(Boolean).join(', ')],
      ['driver', adapter.description],
      ['kind', adapter.software ? 'software (computes on the CPU)' : 'GPU'],
      ['tier', adapter.tier],
    ];
    section(
      'Adapter',
      rows.filter(([, value]) => value !== ''),
    );
  } else {
    lines.push('Adapter', '  none', '');
  }
  if (features) {
    const rows = FEATURES.map(
      ([name, use, remedy]) => [name, features[name] === true ? `yes  ${use}` : `no   ${use}; ${remedy}`] as const,
    );
    section(
      'Features',
      features.subgroupSize === undefined ? rows : [...rows, ['subgroup size', String(features.subgroupSize)]],
    );
  }
  if (limits)
    section(
      'Limits',
      LIMITS.map((name) => [name, /Size$/.test(name) ? bytes(limits[name]) : grouped(limits[name])] as const),
    );
  if (report.kernels) {
    const { measured, shipped } = report.kernels;
    section('Kernels', [
      ['measured here', `${measured}; ${invocation('tune')} measures a model's`],
      ['shipped', shipped],
      ['others', 'by rule of thumb'],
    ]);
  }
  section('Several GPUs', [
    ...report.gpus.map(({ address, name }, k) => [`GPU ${k}`, `${name} at ${address}`] as const),
    ...(report.gpus.length === 0 ? [['GPUs', 'none that can be told apart'] as const] : []),
    ['MPI', report.mpi],
  ]);
  section('Software', [
    ['Node', `${report.node} on ${report.platform}`],
    ['webgpu', report.webgpu],
    ...(report.driverFile === undefined ? [] : [['Vulkan driver file', report.driverFile] as const]),
  ]);
  if (report.computes) lines.push('A matrix product gives the right numbers.');
  if (report.problem !== undefined) lines.push(`Problem: ${report.problem}`);
  lines.push(...report.advice);
  return lines.join('\n');
}
