// Runs test/browser/cases.ts in Chromium: serves the page with vite, drives the browser with playwright-core, and compares what
// the cases return with the same cases under Node. Also bundles the page, to show that nothing of Node is reached from the library,
// and tests the demo of examples/browser as it is built.
//
//   npm run test:browser            with the Chromium that is found, or that CHROMIUM names
//
// The last line is `N passed, N failed`. Where there is no Chromium it says so, and only the bundle is tested.

import { fileURLToPath } from 'node:url';
import type { Browser, Page } from 'playwright-core';
import { build, createServer, type Rolldown } from 'vite';
import { openDevice } from '../../core/index.ts';
import { findChromium, launchChromium, watchProblems } from './chromium.ts';
import { testDemo } from './demo.ts';
import type { CaseResult } from './page.ts';

const CONFIG = fileURLToPath(new URL('./vite.config.ts', import.meta.url));
const TIMEOUT_MS = 240_000;

let passed = 0,
  failed = 0;

function report(name: string, error?: string): void {
  if (error === undefined) passed++;
  else failed++;
  console.log(`${error === undefined ? ' ok ' : 'FAIL'}  ${name}`);
  if (error !== undefined) console.log(error.trimEnd().replace(/^/gm, '      '));
}

/** Bundles the page as a user's bundler would, and looks for what only Node has. */
async function testBundle(): Promise<void> {
  const warnings: string[] = [];
  const output = (await build({
    configFile: CONFIG,
    build: {
      write: false,
      rolldownOptions: {
        onLog: (_level, log) => {
          warnings.push(log.message);
        },
      },
    },
  })) as Rolldown.RolldownOutput | Rolldown.RolldownOutput[];
  const chunks = [output]
    .flat()
    .flatMap(({ output: files }) => files)
    .filter((file) => file.type === 'chunk');
  const reached = chunks
    .flatMap(({ moduleIds }) => moduleIds)
    .filter((id) =>
      /core\/gpu\/node\.ts$|node_modules\/(webgpu|sharp|commander)\/|^\0?(node:|__vite-browser-external:\w)/.test(id),
    );
  const outside = warnings.filter((message) => /externalized|unresolved|could not resolve/i.test(message));
  const wrong = [...reached.map((id) => `reached: ${id}`), ...outside];
  report('the bundle for browsers holds nothing of Node', wrong.length > 0 ? wrong.join('\n') : undefined);
}

async function testPage(browser: Browser): Promise<void> {
  const server = await createServer({
    configFile: CONFIG,
    // A file that is saved meanwhile must not reload the page.
    server: { port: 0, host: '127.0.0.1', hmr: false, watch: null },
  });
  await server.listen();
  const page = await browser.newPage();
  try {
    const problems = watchProblems(page);
    await page.goto(server.resolvedUrls!.local[0]);
    await compareWithNode(await readResults(page, problems));
    report('the page logs no error', problems.length > 0 ? problems.join('\n') : undefined);
  } finally {
    await page.close();
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
  const { cases, runCase } = await import('./cases.ts');
  using device = await openDevice();
  for (const { name, value, error } of results) {
    if (error !== undefined) {
      report(name, error);
      continue;
    }
    const one = cases.find((each) => each.name === name)!;
    await reported(name, async () => {
      const here = await runCase(one, device);
      if (!same(JSON.parse(value!), JSON.parse(here), one.tolerance ?? 0))
        throw new Error(`in the browser ${value}\nunder Node     ${here}`);
    });
  }
}

/** Whether two JSON values are equal but for a difference of their numbers, relative to the largest of an innermost list. */
function same(a: unknown, b: unknown, tolerance: number): boolean {
  if (!Array.isArray(a) || !Array.isArray(b)) return JSON.stringify(a) === JSON.stringify(b);
  if (a.length !== b.length) return false;
  if (!b.every((v) => typeof v === 'number')) return a.every((v, i) => same(v, b[i], tolerance));
  const peak = Math.max(...b.map(Math.abs));
  return b.every((v, i) => Math.abs((a[i] as number) - v) <= tolerance * peak);
}

async function attempt(name: string, test: () => Promise<void>): Promise<void> {
  try {
    await test();
  } catch (error) {
    report(name, error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
}

/** A test that is reported when it passes, too. */
async function reported(name: string, test: () => Promise<void>): Promise<void> {
  await attempt(name, async () => {
    await test();
    report(name);
  });
}

await attempt('bundle', testBundle);
const executable = findChromium();
if (executable === undefined) {
  console.log('not run: page and demo in Chromium (none found on PATH or named by CHROMIUM)');
} else {
  const browser = await launchChromium(executable);
  console.log(`Chromium ${browser.version()}`);
  await attempt('page', () => testPage(browser));
  await attempt('demo', () => testDemo(browser, reported));
  await browser.close();
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
