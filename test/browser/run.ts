// Runs test/browser/cases.ts in Chromium: serves the page with vite, drives the browser with playwright-core, and compares what
// the cases return with the same cases under Node. Also bundles the page, to show that nothing of Node is reached from the library.
//
//   npm run test:browser            with the Chromium that is found, or that CHROMIUM names
//
// The last line is `N passed, N failed`. Where there is no Chromium it says so, and only the bundle is tested.

import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium, type Page } from 'playwright-core';
import { build, createServer, type Rolldown } from 'vite';
import type { CaseResult } from './page.ts';

const CONFIG = fileURLToPath(new URL('./vite.config.ts', import.meta.url));
const TIMEOUT_MS = 240_000;

// WebGPU on SwiftShader, which Chromium brings along, and no talk with the outside.
const FLAGS = [
  '--no-sandbox', '--enable-unsafe-webgpu', '--disable-gpu-sandbox',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run', '--disable-quic',
];

let passed = 0, failed = 0;

function report(name: string, error?: string): void {
  if (error === undefined) passed++;
  else failed++;
  console.log(`${error === undefined ? ' ok ' : 'FAIL'}  ${name}`);
  if (error !== undefined) console.log(error.trimEnd().replace(/^/gm, '      '));
}

function findChromium(): string | undefined {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const names = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome'];
  const folders = (process.env.PATH ?? '').split(delimiter);
  const applications = process.platform === 'darwin'
    ? ['/Applications/Google Chrome.app/Contents/MacOS/Google Chrome', '/Applications/Chromium.app/Contents/MacOS/Chromium'] : [];
  return [...folders.flatMap((folder) => names.map((name) => join(folder, name))), ...applications].find((path) => existsSync(path));
}

/** Bundles the page as a user's bundler would, and looks for what only Node has. */
async function testBundle(): Promise<void> {
  const warnings: string[] = [];
  const output = await build({
    configFile: CONFIG,
    build: { write: false, rolldownOptions: { onLog: (_level, log) => { warnings.push(log.message); } } },
  }) as Rolldown.RolldownOutput | Rolldown.RolldownOutput[];
  const chunks = [output].flat().flatMap(({ output: files }) => files).filter((file) => file.type === 'chunk');
  const reached = chunks.flatMap(({ moduleIds }) => moduleIds).filter((id) => /gpu-node\.ts$|node_modules\/(webgpu|sharp|commander)\/|^\0?(node:|__vite-browser-external:\w)/.test(id));
  const outside = warnings.filter((message) => /externalized|unresolved|could not resolve/i.test(message));
  const wrong = [...reached.map((id) => `reached: ${id}`), ...outside];
  report('the bundle for browsers holds nothing of Node', wrong.length > 0 ? wrong.join('\n') : undefined);
}

async function testPage(executable: string): Promise<void> {
  const server = await createServer({ configFile: CONFIG, server: { port: 0, host: '127.0.0.1' } });
  await server.listen();
  const browser = await chromium.launch({ executablePath: executable, headless: true, args: FLAGS });
  try {
    const page = await browser.newPage();
    const problems: string[] = [];
    page.on('pageerror', (error) => problems.push(`page: ${error.message}`));
    page.on('console', (message) => { if (message.type() === 'error') problems.push(`console: ${message.text()}`); });
    await page.goto(server.resolvedUrls!.local[0]);
    const results = await readResults(page, problems);
    await compareWithNode(results);
    console.log(`Chromium ${browser.version()}`);
  } finally {
    await browser.close();
    await server.close();
  }
}

async function readResults(page: Page, problems: readonly string[]): Promise<CaseResult[]> {
  const deadline = performance.now() + TIMEOUT_MS;
  for (;;) {
    const results = await page.evaluate(() => window.results);
    if (results !== undefined) return results;
    const text = await page.textContent('#log');
    // A module that cannot be loaded shows nothing but an error.
    if (problems.some((problem) => problem.startsWith('page:')) || performance.now() > deadline) {
      throw new Error(['the page did not come to its end', ...problems, text].join('\n'));
    }
    await page.waitForTimeout(100);
  }
}

async function compareWithNode(results: readonly CaseResult[]): Promise<void> {
  const { cases } = await import('./cases.ts');
  for (const { name, value, error } of results) {
    if (error !== undefined || value === undefined) {
      report(name, error);
      continue;
    }
    const here = JSON.stringify(await cases.find((one) => one.name === name)?.run());
    report(name, here === value ? undefined : `in the browser ${value}\nunder Node     ${here}`);
  }
}

async function attempt(name: string, test: () => Promise<void>): Promise<void> {
  try {
    await test();
  } catch (error) {
    report(name, error instanceof Error ? error.stack : String(error));
  }
}

await attempt('bundle', testBundle);
const executable = findChromium();
if (executable === undefined) console.log('no Chromium found on PATH (or named by CHROMIUM): the page is not tested here');
else await attempt('page', () => testPage(executable));
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
