// What a page loads of the installed package, minified and gzipped, for three programs. What is loaded later, where an adapter wants it
// (tables of measured kernels, the measuring itself), are files of their own and don't count. README.md and docs/package.md have the table.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { REPOSITORY, write } from './project.ts';

/** A thousand bytes at most, and the program. */
const PROGRAMS: Readonly<Record<string, readonly [most: number, code: string]>> = {
  'tensors, autograd, products': [
    63,
    `import { grad, openDevice, tensor } from 'dis-webgpu';
const device = await openDevice();
const x = tensor(device, [[1, 2], [3, 4]], { requiresGrad: true });
const [dx] = grad(x.matmul(x.T).relu().sum(), [x]);
document.title = await dx.toText();`,
  ],
  'DiS, sampling': [
    118,
    `import { createDiffusion, ddim, Dis, disConfig, Generator, openDevice, sampleImages } from 'dis-webgpu';
globalThis.program = { createDiffusion, ddim, Dis, disConfig, Generator, openDevice, sampleImages };`,
  ],
  'DiS, training': [
    133,
    `import { createDiffusion, DataLoader, Dis, disConfig, Generator, openDevice, shapesDataset, Trainer } from 'dis-webgpu';
globalThis.program = { createDiffusion, DataLoader, Dis, disConfig, Generator, openDevice, shapesDataset, Trainer };`,
  ],
};

/** Bytes of the first file and of what it imports at once, gzipped. */
export async function bundleSize(project: string, code: string): Promise<number> {
  write(project, { 'sized.mjs': code });
  const { outputFiles, metafile, warnings } = await build({
    absWorkingDir: project,
    entryPoints: ['sized.mjs'],
    outdir: 'bundle',
    bundle: true,
    splitting: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    write: false,
    metafile: true,
  });
  if (warnings.length > 0) throw new Error(warnings.map(({ text }) => text).join('\n'));
  const inputs = Object.entries(metafile.inputs).filter(([, { bytes }]) => bytes > 0);
  const ofNode = inputs.filter(([path]) => /node:|gpu\/node\.js$|node_modules\/(webgpu|sharp|koffi)\//.test(path));
  if (ofNode.length > 0) throw new Error(`of Node: ${ofNode.map(([path]) => path).join(', ')}`);
  const wanted = new Set(['bundle/sized.js']);
  for (const name of wanted)
    for (const { kind, path } of metafile.outputs[name].imports) if (kind === 'import-statement') wanted.add(path);
  return outputFiles
    .filter(({ path }) => [...wanted].some((name) => path.replaceAll('\\', '/').endsWith(`/${name}`)))
    .reduce((sum, { contents }) => sum + gzipSync(contents, { level: 9 }).length, 0);
}

/** The sizes are below their limits, and those that the documents name. */
export async function testSizes(project: string): Promise<void> {
  const wrong: string[] = [];
  const pages = ['README.md', 'docs/package.md'].map(
    (name) => [name, readFileSync(join(REPOSITORY, name), 'utf8')] as const,
  );
  for (const [name, [most, code]] of Object.entries(PROGRAMS)) {
    const kilobytes = (await bundleSize(project, code)) / 1000;
    console.log(`      ${name}: ${kilobytes.toFixed(1)} kB`);
    if (kilobytes > most) wrong.push(`${name}: ${kilobytes.toFixed(1)} kB, expected at most ${most}`);
    for (const [page, text] of pages) {
      const told = Number(new RegExp(`^\\| ${name} \\| (\\d+)`, 'm').exec(text)?.[1]);
      // What others add in between may be a twentieth before the table is written again.
      if (!(Math.abs(told - kilobytes) <= kilobytes / 20))
        wrong.push(`${name}: ${kilobytes.toFixed(1)} kB, but ${page} says ${told}`);
    }
  }
  if (wrong.length > 0) throw new Error(wrong.join('\n'));
}
