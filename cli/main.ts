// Runs on import: dis-cli.mjs imports it.

import { run } from './program.ts';

process.exitCode = await run(process.argv.slice(2));
