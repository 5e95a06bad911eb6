// examples/page in a project that has the packed package and Vite: built, served, and opened in Chromium until the curve is fitted.

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { preview } from 'vite';
import { launchChromium, watchProblems } from '../browser/chromium.ts';
import { REPOSITORY, succeed } from './project.ts';

const TIMEOUT_MS = 120_000;

/** Builds the page in the project, which has Vite installed, and opens it where there is a Chromium. */
export async function testPage(project: string, chromium: string | undefined): Promise<void> {
  const root = join(project, 'page');
  cpSync(join(REPOSITORY, 'examples/page'), root, { recursive: true });
  const said = await succeed(project, 'npx', 'vite', 'build', 'page', '--emptyOutDir');
  assert.not.match(said, /warn|externalized/i);
  if (chromium === undefined) return;
  const server = await preview({ root, configFile: false, logLevel: 'warn', preview: { port: 0, host: '127.0.0.1' } });
  const browser = await launchChromium(chromium);
  try {
    const page = await browser.newPage();
    page.setDefaultTimeout(TIMEOUT_MS);
    const problems = watchProblems(page);
    await page.goto(server.resolvedUrls!.local[0]);
    const status = page.getByRole('status');
    await status.filter({ hasText: /^(?!Opening|Step (?!300 ))/ }).waitFor();
    const text = (await status.textContent())!;
    // The noise alone is 0.15² / 12 = 0.0019.
    const loss = Number(/^Step 300 of 300, loss (\S+)$/.exec(text)?.[1]);
    assert.ok(loss < 0.01, text);
    assert.equal(problems, []);
  } finally {
    await browser.close();
    await server.close();
  }
}
