import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { program, setupScript } from '../../cli/invocation.ts';
import { withFolder } from './support.ts';

const test = suite('invocation');

test('hints say what a person can type here', () =>
  withFolder(async (folder) => {
    const clone = join(folder, 'clone/cli/dis-cli.mjs'),
      linked = join(folder, 'app/node_modules/.bin/dis-cli'),
      shim = join(folder, 'app/node_modules/dis-webgpu/cli/dis-cli.mjs');
    assert.match(program(clone, {}), /^node .*clone\/cli\/dis-cli\.mjs$/);
    // npm puts a project's commands before the path of its children; a person's shell doesn't have them.
    const npm = [join(folder, 'app/node_modules/.bin'), '/usr/bin'].join(delimiter);
    for (const script of [linked, shim]) assert.is(program(script, { PATH: npm }), 'npx dis-cli');
    assert.is(
      program(clone, { npm_lifecycle_event: 'npx', npm_lifecycle_script: 'dis-cli train --data shapes' }),
      'npx dis-cli',
    );
    // Another program that npx began runs this one as it is called.
    assert.match(program(clone, { npm_lifecycle_event: 'npx', npm_lifecycle_script: 'tsx x.ts' }), /^node /);
    const bin = join(folder, 'bin');
    await mkdir(bin);
    await writeFile(join(bin, 'dis-cli'), '');
    await chmod(join(bin, 'dis-cli'), 0o755);
    assert.is(program(join(bin, 'dis-cli'), { PATH: [npm, bin].join(delimiter) }), 'dis-cli');
  }));

test('the script of the set-up is found', () => {
  assert.is(setupScript(), fileURLToPath(new URL('../../cli/setup-adapter.mjs', import.meta.url)));
});

test.run();
