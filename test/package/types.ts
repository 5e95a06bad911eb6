// The package's types under strict and without skipLibCheck, as they are installed, and the README's blocks compiled by them.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pages } from '../../docs/site/markdown.ts';
import { REPOSITORY, run, succeed, write } from './project.ts';

const TSC = join(REPOSITORY, 'node_modules/typescript/bin/tsc');
const RESOLUTIONS = [
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
] as const;

/** What the package exports: `dis-webgpu`, `dis-webgpu/core`, … */
export function subpaths(): string[] {
  const { name, exports } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as {
    name: string;
    exports: Record<string, string | { default: string }>;
  };
  return Object.entries(exports)
    .filter(([, target]) => typeof target !== 'string')
    .map(([path]) => join(name, path).replaceAll('\\', '/'));
}

/** Compiles a project's modules, under each of these ways to resolve them; throws what TypeScript complains of. */
export async function compile(
  project: string,
  files: Readonly<Record<string, string>>,
  options: object,
  resolutions: readonly (readonly [string, string])[] = RESOLUTIONS,
): Promise<void> {
  write(project, files);
  for (const [module, moduleResolution] of resolutions) {
    const compilerOptions = {
      target: 'es2022',
      strict: true,
      module,
      moduleResolution,
      noEmitOnError: true,
      ...options,
    };
    write(project, { 'tsconfig.json': JSON.stringify({ compilerOptions, files: Object.keys(files) }) });
    const { status, out } = await run(project, process.execPath, TSC, '-p', '.');
    if (status !== 0) throw new Error(`${moduleResolution}, ${JSON.stringify(options)}:\n${out.slice(0, 4000)}`);
  }
}

/** Every export of every subpath: with the DOM's types, with Node's, and beside WebGPU's global ones, which are then the package's. */
export async function testTypes(project: string): Promise<void> {
  const code = `${subpaths()
    .map((path, i) => `export * as all${i} from '${path}';`)
    .join('\n')}
import { openDevice, tensor } from 'dis-webgpu';
using device = await openDevice();
export const bytes: number = device.limits.maxBufferSize;
export const y = tensor(device, [1, 2]).add(1);
`;
  await compile(project, { 'every.ts': code }, { lib: ['es2022', 'dom'], types: [], noEmit: true });
  const [nodenext] = RESOLUTIONS;
  await compile(project, { 'every.ts': code }, { lib: ['es2022'], types: ['node'], noEmit: true }, [nodenext]);
  const fits = `${code}export const gpu: GPUDevice = device.gpu;\n`;
  const options = { lib: ['es2022', 'dom'], types: ['@webgpu/types'], noEmit: true };
  await compile(project, { 'every.ts': fits }, options, [nodenext]);
}

/** The README's blocks as modules of the project; their names. */
export async function compileReadme(project: string): Promise<string[]> {
  const readme = pages().find(({ file }) => file === 'README.md')!;
  const blocks = readme.blocks.filter(({ language }) => language === 'ts');
  if (blocks.length === 0) throw new Error('The README has no TypeScript blocks.');
  const files = Object.fromEntries(blocks.map(({ line, code }) => [`readme/line${line}.ts`, `${code}\n`]));
  await compile(project, files, { lib: ['es2022', 'dom'], types: [], outDir: 'built' });
  return readdirSync(join(project, 'built')).map((name) => `built/${name}`);
}

/** The repository's examples for Node, compiled in the project; their names. */
export async function compileExamples(project: string): Promise<string[]> {
  const names = ['own-data', 'own-kernel', 'own-denoiser'];
  const files = Object.fromEntries(
    names.map((name) => [`examples/${name}.ts`, readFileSync(join(REPOSITORY, 'examples', `${name}.ts`), 'utf8')]),
  );
  await compile(project, files, { lib: ['es2022', 'dom'], types: [], outDir: 'examples/built' });
  return names.map((name) => `examples/built/${name}.js`);
}

/** Runs compiled blocks, each in a process of its own. */
export async function runModules(project: string, names: readonly string[]): Promise<void> {
  for (const name of names) await succeed(project, process.execPath, name);
}
