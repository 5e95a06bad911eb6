// Tests examples/browser: under its development server and as built, light and dark, the page trains and draws; as built it also keeps
// and takes a checkpoint, and says so where it cannot train. What it looks like is left in .cache/demo-looks to be looked at.

import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import type { Browser, Page } from 'playwright-core';
import { build, createServer, preview, type PreviewServer, type ViteDevServer } from 'vite';
import { readSafetensors } from '../../nn/index.ts';
import { watchProblems } from './chromium.ts';

const CONFIG = fileURLToPath(new URL('../../examples/browser/vite.config.ts', import.meta.url));
const OUT = fileURLToPath(new URL('../../.cache/demo', import.meta.url));
const LOOKS = fileURLToPath(new URL('../../.cache/demo-looks', import.meta.url));
const TIMEOUT_MS = 120_000;

type Test = (open: (prepare?: (page: Page) => Promise<unknown>) => Promise<Page>) => Promise<void>;

/** Serves the page both ways and gives each test a fresh one; every error on a page's console is a failure. */
export async function testDemo(
  browser: Browser,
  attempt: (name: string, test: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const withPage = async (server: ViteDevServer | PreviewServer, test: Test): Promise<void> => {
    const context = await browser.newContext();
    context.setDefaultTimeout(TIMEOUT_MS);
    try {
      const page = await context.newPage();
      const problems = watchProblems(page);
      await test(async (prepare) => {
        await prepare?.(page);
        await page.goto(server.resolvedUrls!.local[0]);
        return page;
      });
      assert.equal(problems, []);
    } finally {
      await context.close();
    }
  };
  await build({ configFile: CONFIG, logLevel: 'warn', build: { outDir: OUT } });
  const built = await preview({
    configFile: CONFIG,
    logLevel: 'warn',
    build: { outDir: OUT },
    preview: { port: 0, host: '127.0.0.1' },
  });
  const developed = await createServer({
    configFile: CONFIG,
    logLevel: 'warn',
    // A file that is saved meanwhile must not reload the page.
    server: { port: 0, host: '127.0.0.1', hmr: false, watch: null },
  });
  try {
    await developed.listen();
    for (const [how, server] of [
      ['built', built],
      ['development server', developed],
    ] as const)
      for (const scheme of ['light', 'dark'] as const)
        await attempt(`the demo trains and shows it, ${how}, ${scheme}`, () =>
          withPage(server, (open) => trainsInColours(open, scheme, `${how.replace(' ', '-')}-${scheme}`)),
        );
    for (const [name, test] of Object.entries(TESTS)) await attempt(name, () => withPage(built, test));
  } finally {
    await developed.close();
    await built.close();
  }
}

const status = (page: Page, text: string): Promise<void> =>
  page.getByRole('status').filter({ hasText: text }).waitFor();

/** Trains a new run of that many steps at batch 2, to its end. */
async function trainSteps(page: Page, steps: number): Promise<void> {
  await status(page, 'Ready');
  await page.getByLabel('Batch', { exact: true }).fill('2');
  await page.getByLabel('Steps', { exact: true }).fill(String(steps));
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await status(page, `Finished after ${steps} steps`);
}

/** The sum of red, green and blue of the chart's brightest opaque point: of its strokes, without their soft edges. */
const brightestOfChart = (page: Page): Promise<number> =>
  page.evaluate(async () => {
    await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const canvas = document.querySelector<HTMLCanvasElement>('#chart')!;
    const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
    let most = 0;
    for (let i = 0; i < data.length; i += 4)
      if (data[i + 3] > 250) most = Math.max(most, data[i] + data[i + 1] + data[i + 2]);
    return most;
  });

/** A run in one scheme: page, text and chart have its colours, a phone shows all of it, and the chart follows a change of scheme. */
async function trainsInColours(open: Parameters<Test>[0], scheme: 'light' | 'dark', name: string): Promise<void> {
  const page = await open((fresh) => fresh.emulateMedia({ colorScheme: scheme }));
  await trainSteps(page, 3);
  const [background, text] = await page.evaluate(() => {
    const { backgroundColor, color } = getComputedStyle(document.documentElement);
    return [backgroundColor, color].map((colour) => (colour.match(/\d+/g) ?? []).slice(0, 3).map(Number));
  });
  const sum = (colour: readonly number[]): number => colour.reduce((all, one) => all + one, 0);
  const [dim, bright] = scheme === 'dark' ? [background, text] : [text, background];
  assert.ok(sum(dim) < 200 && sum(bright) > 600, `background ${background.join()}, text ${text.join()}`);
  assert.ok((await page.locator('#sheet canvas').count()) > 0, 'samples are drawn');
  const fits = (chart: number, of: string): void =>
    assert.ok(of === 'dark' ? chart > 400 : chart > 0 && chart < 720, `lines of ${chart} on a ${of} page`);
  fits(await brightestOfChart(page), scheme);
  mkdirSync(LOOKS, { recursive: true });
  await page.screenshot({ path: join(LOOKS, `${name}.png`), fullPage: true });

  const other = scheme === 'dark' ? 'light' : 'dark';
  await page.emulateMedia({ colorScheme: other });
  fits(await brightestOfChart(page), other);
  await page.emulateMedia({ colorScheme: scheme });
  await page.setViewportSize({ width: 390, height: 844 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `${wide} pixels wide on a phone`);
  await page.screenshot({ path: join(LOOKS, `${name}-phone.png`), fullPage: true });
}

const TESTS: Readonly<Record<string, Test>> = {
  async 'the demo trains three steps, draws, and goes on from the checkpoint that it wrote'(open) {
    const page = await open();
    await trainSteps(page, 3);
    assert.match((await page.textContent('#step'))!, /^3 of 3$/);
    const loss = Number(await page.textContent('#loss'));
    assert.ok(loss > 0 && loss < 10, `a loss of ${loss}`);
    assert.match((await page.textContent('#caption'))!, /^Step 3, drawn with the weights as they are/);

    const downloading = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Download' }).click();
    const path = await (await downloading).path();
    const { tensors, metadata } = readSafetensors(readFileSync(path));
    assert.equal(JSON.parse(metadata.get('settings')!), { model: 'DiS-N/4', batchSize: 2, lr: 0.002, steps: 3 });
    assert.ok(tensors.has('model.pos_embed') && tensors.has('ema.pos_embed') && tensors.has('optimizer.m.pos_embed'));

    await page.getByRole('button', { name: 'New run' }).click();
    await status(page, 'Ready');
    await page.setInputFiles('#file', path);
    await status(page, 'Loaded step 3');
  },

  async 'a run that may not fit is begun only when that is wanted'(open) {
    const page = await open((fresh) =>
      fresh.addInitScript('Object.defineProperty(Navigator.prototype, "deviceMemory", { value: 0.5 })'),
    );
    await status(page, 'Ready');
    await page.getByLabel('Model').selectOption('DiS-XS/2');
    await page.getByLabel('Batch', { exact: true }).fill('512');
    await page.getByRole('button', { name: 'Start' }).click();
    await page
      .getByRole('alert')
      .filter({ hasText: /This run may not fit[^]*Training takes about [\d.]+ GiB of GPU memory at batch 512/ })
      .waitFor();
    assert.is(await page.textContent('#step'), '0');
    await page.getByLabel('Model').selectOption('DiS-N/4');
    await trainSteps(page, 1);
  },

  async 'the demo says what to do where there is no WebGPU'(open) {
    const page = await open((fresh) =>
      fresh.addInitScript('Object.defineProperty(Navigator.prototype, "gpu", { value: undefined })'),
    );
    await page
      .getByRole('alert')
      .filter({ hasText: 'WebGPU is not available here. Open this page in a current Chrome' })
      .waitFor();
    assert.ok(await page.getByRole('button', { name: 'Start' }).isDisabled());
  },

  async 'the demo survives the loss of the GPU'(open) {
    const page = await open((fresh) =>
      fresh.addInitScript(() => {
        const original = GPUAdapter.prototype.requestDevice;
        GPUAdapter.prototype.requestDevice = async function (...options) {
          const device = await original.apply(this, options);
          addEventListener('lose', () => device.destroy(), { once: true });
          return device;
        };
      }),
    );
    await status(page, 'Ready');
    await page.evaluate(() => dispatchEvent(new Event('lose')));
    await page.getByRole('alert').filter({ hasText: 'The GPU was lost.' }).waitFor();
    await page.getByRole('button', { name: 'Open it again' }).click();
    await page.getByRole('button', { name: 'Start' }).and(page.locator(':enabled')).waitFor();
  },
};
