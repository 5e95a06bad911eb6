// `npm run demo` serves the page, `npm run demo:build` writes it as a static site that can lie in any folder of any host.

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const project = fileURLToPath(new URL('../..', import.meta.url));

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  base: './',
  cacheDir: `${project}/.cache/vite-demo`,
  // 'dis-webgpu' is this clone, as tsconfig.json says.
  resolve: { tsconfigPaths: true },
  server: { fs: { allow: [project] } },
  build: { outDir: 'dist', emptyOutDir: true, target: 'es2022' },
});
