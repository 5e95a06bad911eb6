// Builds the documentation site and looks at it: every link of every built page leads to a page and to a heading that is there, and in
// Chromium pages fit a phone and a desktop, light and dark, and log no error.
//
//   npm run test:docs                         builds into a temporary folder
//   npm run test:docs -- --built FOLDER       takes a site that was built before
//   npm run test:docs -- --shots FOLDER       also writes what Chromium shows, for people to look at
//
// The last line is `N passed, N failed`. Where there is no Chromium it says so, and only the links are tested.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Browser, Route } from 'playwright-core';
import { PROJECT } from '../../docs/site/markdown.ts';
import { findChromium, launchChromium, watchProblems } from '../browser/chromium.ts';

const ORIGIN = 'https://docs.test';
/** For a page; the machine may be busy. */
const LIMIT_MS = 120_000;
const VIEWS = [
  { name: 'phone', viewport: { width: 390, height: 844 }, colorScheme: 'light' },
  { name: 'phone-dark', viewport: { width: 390, height: 844 }, colorScheme: 'dark' },
  { name: 'desktop', viewport: { width: 1440, height: 900 }, colorScheme: 'light' },
  { name: 'desktop-dark', viewport: { width: 1440, height: 900 }, colorScheme: 'dark' },
] as const;
const LOOKED_AT = [
  '/',
  '/getting-started',
  '/browser',
  '/pytorch',
  '/commands/train',
  '/kernels/selective-scan',
  '/benchmarks',
  '/readme',
  '/api/',
  '/api/core/classes/Tensor',
  '/api/core/functions/matmul',
];
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
};

/** Of HTML. */
const unescape = (text: string): string =>
  text.replaceAll('&amp;', '&').replaceAll('&quot;', '"').replaceAll('&#39;', "'");

let passed = 0,
  failed = 0;

function report(name: string, problems: readonly string[]): void {
  if (problems.length === 0) passed++;
  else failed++;
  console.log(`${problems.length === 0 ? ' ok ' : 'FAIL'}  ${name}`);
  for (const problem of problems.slice(0, 40)) console.log(`      ${problem}`);
}

const { values } = parseArgs({ options: { built: { type: 'string' }, shots: { type: 'string' } } });
const temporary = values.built === undefined ? mkdtempSync(join(tmpdir(), 'dis-docs-')) : undefined;
const site = values.built ?? join(temporary!, 'site');
try {
  if (temporary !== undefined) build();
  if (existsSync(site)) {
    checkLinks();
    const chromium = findChromium();
    if (chromium === undefined) console.log('not run: the site in a browser (there is no Chromium)');
    else await look(chromium);
  }
} finally {
  if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;

function build(): void {
  const args = ['--import', 'tsx', 'docs/site/main.ts', 'build', '--out', site];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: PROJECT, encoding: 'utf8' });
  report('the site is built', status === 0 ? [] : `${stdout}\n${stderr}`.trim().split('\n').slice(-30));
}

/** The file that an address of the site shows, or undefined. */
function fileOf(address: string): string | undefined {
  const path = decodeURIComponent(address.split(/[?#]/)[0]);
  return [path, `${path}.html`, `${path.replace(/\/$/, '')}/index.html`]
    .map((name) => join(site, name))
    .find((name) => extname(name) !== '' && existsSync(name));
}

function checkLinks(): void {
  const pages = readdirSync(site, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.html'))
    .map((name) => name.replaceAll('\\', '/'));
  const texts = new Map(pages.map((name) => [join(site, name), readFileSync(join(site, name), 'utf8')]));
  const anchors = new Map(
    [...texts].map(([file, text]) => [
      file,
      new Set(Array.from(text.matchAll(/\sid="([^"]+)"/g), ([, id]) => unescape(id))),
    ]),
  );
  const wrong = new Set<string>();
  let links = 0;
  for (const name of pages) {
    const own = join(site, name);
    const address = `/${name.replace(/(index)?\.html$/, '')}`;
    for (const [, link] of texts.get(own)!.matchAll(/<a\s[^>]*?href="([^"]*)"/g)) {
      const { origin, pathname, hash } = new URL(unescape(link), `${ORIGIN}${address}`);
      if (origin !== ORIGIN) continue;
      links++;
      const file = fileOf(pathname);
      if (file === undefined) wrong.add(`${name}: ${link}: there is no such page`);
      else if (hash !== '' && !anchors.get(file)?.has(decodeURIComponent(hash.slice(1))))
        wrong.add(`${name}: ${link}: the page has no such heading`);
    }
  }
  report(`${links} links of ${pages.length} pages lead somewhere`, [...wrong]);
}

async function look(chromium: string): Promise<void> {
  if (values.shots !== undefined) mkdirSync(values.shots, { recursive: true });
  const browser = await launchChromium(chromium);
  try {
    for (const view of VIEWS) report(`pages fit: ${view.name}`, await lookAt(browser, view));
  } finally {
    await browser.close();
  }
}

async function lookAt(browser: Browser, { name, viewport, colorScheme }: (typeof VIEWS)[number]): Promise<string[]> {
  const context = await browser.newContext({ viewport, colorScheme });
  await context.route('**/*', answer);
  const page = await context.newPage();
  page.setDefaultTimeout(LIMIT_MS);
  const problems = watchProblems(page);
  const wrong: string[] = [];
  page.on('response', (response) => {
    if (response.status() >= 400) wrong.push(`${response.url()}: status ${response.status()}`);
  });
  for (const address of LOOKED_AT) {
    await page.goto(`${ORIGIN}${address}`, { waitUntil: 'networkidle' });
    const { scrollWidth, clientWidth } = await page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return { scrollWidth, clientWidth };
    });
    wrong.push(...problems.splice(0).map((problem) => `${address}: ${problem}`));
    if (scrollWidth > clientWidth) wrong.push(`${address} is ${scrollWidth} pixels wide on a screen of ${clientWidth}`);
    if (values.shots !== undefined) {
      const file = `${name}${address.replace(/\/$/, '/index').replaceAll('/', '-')}.png`;
      await page.screenshot({ path: join(values.shots, file) });
    }
  }
  await context.close();
  return wrong;
}

function answer(route: Route): Promise<void> {
  const { origin, pathname } = new URL(route.request().url());
  const file = origin === ORIGIN ? fileOf(pathname) : undefined;
  if (file === undefined) return route.fulfill({ status: 404, body: 'There is no such file.' });
  return route.fulfill({ contentType: TYPES[extname(file)] ?? 'application/octet-stream', body: readFileSync(file) });
}
