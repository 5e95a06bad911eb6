// `npm run build`: what the package holds, in dist/. TypeScript writes modules and types; then comments and the blanks of WGSL leave the
// modules, and what the command line alone needs of other packages goes in beside it.

import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { vendor } from './vendor.mjs';
import { withSmallerWgsl } from './wgsl.mjs';

const project = fileURLToPath(new URL('..', import.meta.url));
const dist = join(project, 'dist');
const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));

rmSync(dist, { recursive: true, force: true });
const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
const { status } = spawnSync(process.execPath, [tsc, '-p', join(project, 'tsconfig.build.json')], { stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

const files = readdirSync(dist, { recursive: true, encoding: 'utf8' });
// The command line has no types for others.
for (const name of files.filter((file) => /^cli[\\/].*\.d\.ts$/.test(file))) rmSync(join(dist, name));
for (const name of files.filter((file) => file.endsWith('.js'))) {
  const path = join(dist, name);
  const { code } = await transform(readFileSync(path, 'utf8'), { target: 'es2022', legalComments: 'none' });
  writeFileSync(path, name.startsWith('cli') ? code : withSmallerWgsl(code));
}
await vendor(join(dist, 'cli'), (name) => name in { ...dependencies, ...peerDependencies }, project);
