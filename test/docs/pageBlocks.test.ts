// Blocks of the documents that are pages run in Chromium: HTML as it stands, its import map included, with what it asks of jsDelivr
// answered from this project and its node_modules; and TypeScript that is marked `page`. A page passes when it shows what it computed
// and logs no error.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Page, Route } from 'playwright-core';
import ts from 'typescript';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { entryPoints } from '../../docs/site/entryPoints.ts';
import { pages, PROJECT } from '../../docs/site/markdown.ts';
import { findChromium, launchChromium, watchProblems } from '../browser/chromium.ts';
import { notRun } from '../support.ts';

const ORIGIN = 'https://page.test';
const CDN = 'https://cdn.jsdelivr.net/npm/';
const LIMIT_MS = 300_000;

const test = suite('page blocks');
const blocks = pages()
  .flatMap((page) => page.blocks)
  .filter(({ language, marks }) => language === 'html' || (language === 'ts' && marks.includes('page')));

test('the documents have such blocks', () => {
  assert.ok(blocks.some(({ language }) => language === 'html'));
  assert.ok(blocks.some(({ language }) => language === 'ts'));
});

test('every page shows what it computed', async () => {
  const chromium = findChromium();
  if (chromium === undefined) return notRun('there is no Chromium', 'page blocks');
  const browser = await launchChromium(chromium);
  try {
    for (const { at, language, code } of blocks) {
      const page = await browser.newPage();
      const problems = watchProblems(page);
      await page.route('**/*', (route) => answer(route, language === 'html' ? code : pageOf(code)));
      await page.goto(`${ORIGIN}/`, { waitUntil: 'commit', timeout: LIMIT_MS });
      await shows(page, problems, at);
      assert.equal(problems, [], at);
      await page.close();
    }
  } finally {
    await browser.close();
  }
});

/** Waits until the page shows a number. */
async function shows(page: Page, problems: readonly string[], at: string): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!/\d/.test((await page.textContent('body')) ?? '')) {
    assert.equal(problems, [], at);
    if (performance.now() > deadline) assert.unreachable(`${at}: the page shows nothing after ${LIMIT_MS / 1000} s`);
    await page.waitForTimeout(200);
  }
}

/** The page around a module, as a bundler's development server serves it. */
function pageOf(code: string): string {
  const imports = Object.fromEntries(
    [...entryPoints()].map(([name, source]) => [name, `${CDN}dis-webgpu/dist/${source.replace(/\.ts$/, '.js')}`]),
  );
  const map = { imports: { ...imports, '@petamoriken/float16': `${CDN}@petamoriken/float16/browser/float16.mjs` } };
  return `<!doctype html><script type="importmap">${JSON.stringify(map)}</script><body></body>
<script type="module">${javascript(code)}</script>`;
}

/** What `tsc` makes of a file of the package: types are gone, and imports name the JavaScript. */
function javascript(text: string): string {
  const compilerOptions: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    rewriteRelativeImportExtensions: true,
    verbatimModuleSyntax: true,
  };
  return ts.transpileModule(text, { compilerOptions }).outputText;
}

/** Answers for the page, and for jsDelivr: `dis-webgpu/dist/…` from the sources, other packages from node_modules. */
function answer(route: Route, html: string): Promise<void> {
  const url = route.request().url();
  if (url === `${ORIGIN}/`) return route.fulfill({ contentType: 'text/html; charset=utf-8', body: html });
  if (url === `${ORIGIN}/favicon.ico`) return route.fulfill({ status: 204 });
  const [, own, file] = /^(dis-webgpu(?:@[\d.]+)?\/dist\/)?(.*)$/.exec(
    url.startsWith(CDN) ? url.slice(CDN.length) : '',
  )!;
  const path = own ? join(PROJECT, file.replace(/\.js$/, '.ts')) : join(PROJECT, 'node_modules', file);
  if (file === '' || !existsSync(path)) return route.fulfill({ status: 404, body: `There is no ${url}` });
  const text = readFileSync(path, 'utf8');
  return route.fulfill({
    contentType: 'text/javascript; charset=utf-8',
    headers: { 'access-control-allow-origin': '*' },
    body: own ? javascript(text) : text,
  });
}

test.run();
