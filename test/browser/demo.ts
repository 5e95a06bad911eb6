// Tests examples/browser as it is built: the page trains, draws, keeps and takes a checkpoint, and says so where it cannot.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import type { Browser, Page } from 'playwright-core';
import { build, preview } from 'vite';
import { readSafetensors } from '../../nn/index.ts';
import { watchProblems } from './chromium.ts';

const CONFIG = fileURLToPath(new URL('../../examples/browser/vite.config.ts', import.meta.url));
const OUT = fileURLToPath(new URL('../../.cache/demo', import.meta.url));
const TIMEOUT_MS = 120_000;

type Test = (open: (prepare?: (page: Page) => Promise<unknown>) => Promise<Page>) => Promise<void>;

/** Builds the page and gives each test a fresh one; every error on a page's console is a failure. */
export async function testDemo(
  browser: Browser,
  attempt: (name: string, test: () => Promise<void>) => Promise<void>,
): Promise<void> {
  await build({ configFile: CONFIG, logLevel: 'warn', build: { outDir: OUT } });
  const server = await preview({
    configFile: CONFIG,
    logLevel: 'warn',
    build: { outDir: OUT },
    preview: { port: 0, host: '127.0.0.1' },
  });
  try {
    for (const [name, test] of Object.entries(TESTS)) {
      await attempt(name, async () => {
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
      });
    }
  } finally {
    await server.close();
  }
}

const status = (page: Page, text: string): Promise<void> =>
  page.getByRole('status').filter({ hasText: text }).waitFor();

const TESTS: Readonly<Record<string, Test>> = {
  async 'the demo trains three steps, draws, and goes on from the checkpoint that it wrote'(open) {
    const page = await open();
    await status(page, 'Ready');
    for (const [label, value] of [
      ['Batch', '2'],
      ['Steps', '3'],
    ])
      await page.getByLabel(label, { exact: true }).fill(value);
    await page.getByRole('button', { name: 'Start' }).click();
    await status(page, 'Finished after 3 steps');
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

  async 'the loss chart has the colours of the scheme, dark or light'(open) {
    const page = await open((fresh) => fresh.emulateMedia({ colorScheme: 'dark' }));
    await status(page, 'Ready');
    for (const [label, value] of [
      ['Batch', '2'],
      ['Steps', '3'],
    ])
      await page.getByLabel(label, { exact: true }).fill(value);
    await page.getByRole('button', { name: 'Start' }).click();
    await status(page, 'Finished after 3 steps');
    const brightest = (): Promise<number> =>
      page.evaluate(async () => {
        await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
        const canvas = document.querySelector<HTMLCanvasElement>('#chart')!;
        const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
        let most = 0;
        // Of what is opaque: the strokes, without their soft edges.
        for (let i = 0; i < data.length; i += 4)
          if (data[i + 3] > 250) most = Math.max(most, data[i] + data[i + 1] + data[i + 2]);
        return most;
      });
    assert.ok((await brightest()) > 400, 'light lines on a dark page');
    await page.emulateMedia({ colorScheme: 'light' });
    const light = await brightest();
    assert.ok(light > 0 && light < 720, `dark lines on a light page: ${light}`);
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
    for (const [label, value] of [
      ['Batch', '2'],
      ['Steps', '1'],
    ])
      await page.getByLabel(label, { exact: true }).fill(value);
    await page.getByRole('button', { name: 'Start', exact: true }).click();
    await status(page, 'Finished after 1 steps');
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
