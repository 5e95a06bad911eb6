// Serves the test page: `npx vite --config test/browser/vite.config.ts` opens it in any browser.

import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const project = fileURLToPath(new URL('../..', import.meta.url));

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  cacheDir: `${project}/.cache/vite`,
  logLevel: 'warn',
  server: { fs: { allow: [project] } },
  // Found at the first import otherwise, which reloads the page in the middle of a test.
  optimizeDeps: { include: ['@petamoriken/float16', 'uvu', 'uvu/assert'] },
  build: { outDir: `${project}/.cache/browser`, emptyOutDir: true, target: 'esnext', minify: false },
});
