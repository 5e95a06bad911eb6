// Blocks of a shell that are marked `run` are run, in an empty project in which the package is installed, and what they name after
// `--out` is there afterwards. Their commands are small by themselves.

import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { pages, PROJECT } from '../../docs/site/markdown.ts';
import { notRun } from '../support.ts';
import { runChild, type Outcome } from './child.ts';

const LIMIT_MS = 600_000;

const test = suite('shell blocks');
const blocks = pages()
  .flatMap((page) => page.blocks)
  .filter(({ language, marks }) => language === 'sh' && marks.includes('run'));

test('the documents have such blocks', () => {
  assert.ok(blocks.length > 0);
});

for (const { at, code } of blocks) {
  test(`${at} runs`, async () => {
    if (process.platform === 'win32') return notRun('the blocks are of a POSIX shell', at);
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'dis-shell-')));
    try {
      install(folder);
      const { status, output } = await shell(code, folder);
      assert.is(status, 0, output);
      for (const [, out] of code.matchAll(/--(?:out|each|animate) (\S+)/g))
        assert.ok(existsSync(join(folder, out)), out);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

/** As `npm install` of this folder leaves a project. */
function install(folder: string): void {
  writeFileSync(join(folder, 'package.json'), '{ "name": "mine", "private": true, "type": "module" }\n');
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true });
  symlinkSync(PROJECT, join(folder, 'node_modules/dis-webgpu'), 'junction');
  symlinkSync('../dis-webgpu/cli/dis-cli.mjs', join(folder, 'node_modules/.bin/dis-cli'));
}

/** No registry is asked: what isn't installed is an error. */
function shell(code: string, cwd: string): Promise<Outcome> {
  const env = { ...process.env, npm_config_offline: 'true', npm_config_yes: 'false' };
  return runChild(['sh', '-e', '-c', code], LIMIT_MS, { cwd, env });
}

test.run();
