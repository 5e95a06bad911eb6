#!/usr/bin/env node
// The command `dis-cli`: in a clone it runs the source, so that nothing has to be built and nothing is stale; installed from a
// registry it runs what was built.

import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const source = new URL('./main.ts', import.meta.url);
if (existsSync(source)) {
  const { register } = await import('tsx/esm/api');
  // Without this, a tsconfig.json of the folder that the command is called in could name other modules to run.
  register({ tsconfig: fileURLToPath(new URL('../tsconfig.json', import.meta.url)) });
  await import(source.href);
} else {
  await import('../dist/cli/main.js');
}
