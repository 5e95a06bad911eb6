// The package as a user gets it: packed, installed into fresh folders, and used there.
//
//   npm run test:package
//
// It wants npm's registry and, where the machine has no GPU driver, Debian's or Ubuntu's packages. The last line is
// `N passed, N failed`.

import { existsSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { publint } from 'publint';
import { findChromium } from '../browser/chromium.ts';
import { testPage } from './page.ts';
import { freshProject, pack, REPOSITORY, run, sameVersion, succeed, WORKPLACE } from './project.ts';
import { testSizes } from './sizes.ts';
import { compileExamples, compileReadme, runModules, testTypes } from './types.ts';

let passed = 0,
  failed = 0;

/** Runs and reports a test; false where it failed. */
async function test(name: string, body: () => Promise<void>): Promise<boolean> {
  const start = performance.now();
  let problem: string | undefined;
  try {
    await body();
    passed++;
  } catch (error) {
    failed++;
    problem = error instanceof Error ? error.message : String(error);
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${problem === undefined ? ' ok ' : 'FAIL'}  ${name}, ${seconds} s`);
  if (problem !== undefined) console.log(problem.trimEnd().replace(/^/gm, '      '));
  return problem === undefined;
}

function check(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

/** Bytes of all files below a folder. */
function bytesBelow(folder: string): number {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => statSync(join(folder, name)))
    .reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0);
}

async function lintPackage(tarball: string): Promise<void> {
  const { buffer, byteOffset, byteLength } = readFileSync(tarball);
  const { messages } = await publint({
    pack: { tarball: buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer },
    level: 'warning',
    strict: true,
  });
  check(messages.length === 0, messages.map((message) => JSON.stringify(message)).join('\n'));
}

async function smallInstall(project: string): Promise<void> {
  const installed = readdirSync(join(project, 'node_modules')).filter((name) => !name.startsWith('.'));
  check(installed.sort().join() === '@petamoriken,dis-webgpu', `installed: ${installed.join(', ')}`);
  const megabytes = bytesBelow(join(project, 'node_modules')) / 1e6;
  check(megabytes < 6, `node_modules holds ${megabytes.toFixed(1)} MB, expected at most 6`);
}

async function missingPackages(project: string): Promise<void> {
  const cli = await run(project, 'npx', 'dis-cli', 'train', '--data', 'shapes', '--steps', '20');
  check(
    cli.err.trim() ===
      'dis-cli: The npm packages webgpu and sharp are not installed; run `npx dis-cli setup`, which installs what is missing.',
    cli.err,
  );
  check(cli.status === 2, `status ${cli.status}`);
  const library = await run(
    project,
    process.execPath,
    '--input-type=module',
    '--eval',
    "import { openDevice } from 'dis-webgpu'; await openDevice().catch((error) => console.log(error.message));",
  );
  check(
    /^\[openNodeGpu\] The npm package webgpu is not installed, .*`npx dis-cli setup`/.test(library.out),
    library.out,
  );
  for (const words of [['--help'], ['train', '--help'], ['info', '--model', 'DiS-S/2']])
    await succeed(project, 'npx', 'dis-cli', ...words);
}

async function setUp(project: string): Promise<void> {
  const first = await succeed(project, 'npx', 'dis-cli', 'setup');
  check(/^packages: npm install .*webgpu@\S+ sharp@\S+, in /m.test(first), first);
  check(/^adapter: /m.test(first), first);
  const second = await succeed(project, 'npx', 'dis-cli', 'setup');
  check(/^adapter: .*\n$/.test(second), second);
}

async function trains(project: string): Promise<void> {
  await succeed(project, 'npx', 'dis-cli', 'train', '--data', 'shapes', '--steps', '20');
  const run = join(project, 'runs/shapes-dis-n-4');
  check(existsSync(run), `there is no ${run}, but ${readdirSync(join(project, 'runs')).join(', ')}`);
  const again = await succeed(
    project,
    'npx',
    'dis-cli',
    'sample',
    'runs/shapes-dis-n-4',
    '--steps',
    '2',
    '--out',
    'a.png',
  );
  check(existsSync(join(project, 'a.png')), again);
}

async function removes(project: string): Promise<void> {
  const driver = join(WORKPLACE, 'cache/dis-webgpu/vulkan');
  const ours = existsSync(driver);
  const said = await succeed(project, 'npx', 'dis-cli', 'setup', '--remove');
  check((ours ? /is removed; npx dis-cli setup provides it again/ : /There is no software driver/).test(said), said);
  check(!existsSync(driver), 'the driver is still there');
  if (!ours) return;
  const { out, err } = await run(project, 'npx', 'dis-cli', 'doctor');
  check(/npx dis-cli setup/.test(out + err), `${out}${err}`);
}

try {
  const tarball = await pack();
  const project = await freshProject('app', tarball);
  await test('publint finds nothing', () => lintPackage(tarball));
  await test('are-the-types-wrong finds nothing', async () => {
    const attw = join(REPOSITORY, 'node_modules/.bin/attw');
    await succeed(REPOSITORY, attw, tarball, '--profile', 'esm-only', '--no-emoji');
  });
  await test('the library installs as a few megabytes', () => smallInstall(project));
  await test('what is missing is asked for in a sentence', () => missingPackages(project));
  await test('bundles for pages are small and hold nothing of Node', () => testSizes(project));
  await test('types stand alone, under nodenext and bundler', async () => {
    await testTypes(await freshProject('types', tarball, ...['@types/node', '@webgpu/types'].map(sameVersion)));
  });
  const chromium = findChromium();
  if (chromium === undefined)
    console.log('not run: the page of examples/page in Chromium (none found on PATH or named by CHROMIUM)');
  await test('the page of examples/page is built by Vite and fits its curve', async () => {
    await testPage(await freshProject('page', tarball, sameVersion('vite')), chromium);
  });
  let blocks: string[] = [];
  await test("the README's blocks compile", async () => {
    blocks = await compileReadme(project);
  });
  if (await test('dis-cli setup provides packages and an adapter, once', () => setUp(project))) {
    await test("the README's blocks run", () => runModules(project, blocks));
    await test('examples compile and run', async () => runModules(project, await compileExamples(project)));
    await test('dis-cli trains and samples from the installed package', () => trains(project));
    await test('dis-cli setup --remove', () => removes(project));
  }
} finally {
  rmSync(WORKPLACE, { recursive: true, force: true });
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
