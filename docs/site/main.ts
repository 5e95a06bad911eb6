// The documentation site: `npm run docs` writes it to docs/.vitepress/dist, `npm run docs:dev` serves it while one writes.
//
//   node --import tsx docs/site/main.ts build [--out FOLDER] [--base PATH]
//   node --import tsx docs/site/main.ts dev [--port N]

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build, createServer } from 'vitepress';
import { writeApiPages } from './apiPages.ts';
import { writeCommandPages } from './commandPages.ts';
import { GENERATED, PROJECT } from './markdown.ts';
import { writeSourcePages } from './sourcePages.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { out: { type: 'string' }, base: { type: 'string' }, port: { type: 'string', default: '5173' } },
});

for (const folder of GENERATED) rmSync(join(PROJECT, folder), { recursive: true, force: true });
console.time('pages');
await writeApiPages();
await writeCommandPages();
writeSourcePages();
console.timeEnd('pages');
if (positionals[0] === 'pages') process.exit();
const root = join(PROJECT, 'docs');
if (positionals[0] === 'dev') {
  const server = await createServer(root, { port: Number(values.port) });
  await server.listen();
  server.printUrls();
} else await build(root, { outDir: values.out, base: values.base });
