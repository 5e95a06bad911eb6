#!/usr/bin/env node
// The command `dis-cli`: in a clone it runs the source, so that nothing has to be built and nothing is stale; installed from a
// registry it runs what was built.

import { existsSync } from 'node:fs';

const source = new URL('./main.ts', import.meta.url);
if (existsSync(source)) {
  const { register } = await import('tsx/esm/api');
  register();
  await import(source.href);
} else {
  await import('../dist/cli/main.js');
}
