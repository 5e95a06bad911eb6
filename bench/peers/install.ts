// Installs the peers into this folder, at the versions that its package.json pins.

import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const PEERS = dirname(fileURLToPath(import.meta.url));
const BUNDLE = join(PEERS, 'node_modules', '.cache', 'tfjs.mjs');

/** A file of an installed peer, for `import()`. */
export function peerUrl(path: string): string {
  return pathToFileURL(join(PEERS, 'node_modules', path)).href;
}

/** TensorFlow.js as one module: its packages are written for bundlers, and the gradients must register with the same core as the backend. */
export const TFJS_URL = pathToFileURL(BUNDLE).href;

const TFJS_ENTRY = `import '@tensorflow/tfjs-core/dist/register_all_gradients';
import '@tensorflow/tfjs-backend-webgpu';
export * from '@tensorflow/tfjs-core';`;

/** Installs what is missing. */
export async function installPeers(): Promise<void> {
  if (!existsSync(join(PEERS, 'node_modules', '.package-lock.json'))) {
    execFileSync('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts'], {
      cwd: PEERS,
      stdio: ['ignore', 'ignore', 'inherit'],
      shell: process.platform === 'win32',
    });
  }
  if (!existsSync(BUNDLE)) {
    const { build } = (await import(peerUrl('esbuild/lib/main.js'))) as { build(options: object): Promise<unknown> };
    await build({
      stdin: { contents: TFJS_ENTRY, resolveDir: PEERS },
      bundle: true,
      format: 'esm',
      platform: 'node',
      mainFields: ['module', 'main'],
      outfile: BUNDLE,
      external: ['node-fetch', 'util', 'string_decoder'],
      logLevel: 'error',
      banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    });
  }
}
