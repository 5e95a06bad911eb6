import { defineConfig } from 'vite';

export default defineConfig({
  base: './',
  // In a clone of the repository, 'dis-webgpu' is the clone, as its tsconfig.json says.
  resolve: { tsconfigPaths: true },
});
