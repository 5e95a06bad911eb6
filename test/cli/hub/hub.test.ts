// Runs to and from a Hub on loopback, through the Hub's own client; and what a Hub that means harm may send.

import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { hubToken } from '../../../cli/hub/client.ts';
import { officialPath } from '../../models/officialRun.ts';
import { refuse, succeed, withFolder } from '../support.ts';
import { startHub, TOKEN, type FakeHub } from './server.ts';

const test = suite('hub');
const NAME = 'somebody/shapes';
const TINY = (
  'train --data shapes --model DiS-N/4 --image-size 8 --embed-dim 8 --depth 2 --batch 2 --steps 3 --sample-every 3 ' +
  '--sample-steps 1 --out run -q'
).split(' ');

/** A Hub, and a folder with a run. */
function withHub(body: (hub: FakeHub, folder: string) => Promise<void>): Promise<void> {
  return withFolder(async (folder) => {
    const hub = await startHub();
    const before = { ...process.env };
    Object.assign(process.env, {
      HF_ENDPOINT: hub.url,
      HF_TOKEN: TOKEN,
      HF_HOME: join(folder, 'none'),
      DIS_CACHE_DIR: join(folder, 'cache'),
    });
    try {
      await succeed(folder, ...TINY);
      await body(hub, folder);
    } finally {
      for (const key of ['HF_ENDPOINT', 'HF_TOKEN', 'HF_HOME', 'HF_TOKEN_PATH', 'DIS_CACHE_DIR'])
        if (before[key] === undefined) delete process.env[key];
        else process.env[key] = before[key];
      await hub.close();
    }
  });
}

const step = (folder: string, file: string): string => join(folder, 'run', 'checkpoints', 'step-00000003', file);

test('a run is pushed, pulled, sampled and begun from', () =>
  withHub(async (hub, folder) => {
    const pushed = await succeed(folder, 'push', NAME, 'run');
    assert.is(pushed.out, `Pushed to ${hub.url}/${NAME}\n`);
    assert.is(hub.made.get(NAME), 'private');
    const files = hub.files.get(NAME)!;
    assert.equal([...files.keys()].sort(), [
      'README.md',
      'config.json',
      'ema.safetensors',
      'model.safetensors',
      'samples.png',
      'state.json',
    ]);
    const card = files.get('README.md')!.bytes.toString();
    assert.match(
      card,
      /^---\nlibrary_name: dis-webgpu\n[^]*!\[Samples\]\(samples\.png\)[^]*\| model \| DiS-N\/4, [\d.]+ k parameters \|[^]*\| loss, mean of the last 100 steps \| [\d.]+ \|/,
    );
    assert.match(card, new RegExp(`npx dis-cli sample hf:${NAME} `));
    for (const [file, { bytes }] of files) {
      assert.not.ok(bytes.includes(TOKEN), file);
      assert.not.ok(bytes.includes(folder), `${file} names a folder of this machine`);
    }

    const pulled = await succeed(folder, 'pull', NAME, 'pulled');
    assert.match(pulled.out, /^Pulled .* to pulled\. Look at samples with /);
    for (const part of ['ema', 'model'])
      assert.ok(
        (await readFile(join(folder, 'pulled', `${part}.safetensors`))).equals(
          await readFile(step(folder, `${part}.safetensors`)),
        ),
      );
    const sample = async (from: string): Promise<Buffer> => {
      await succeed(folder, 'sample', from, '--steps', '1', '--count', '1', '--out', 'sheet.png', '-q');
      return readFile(join(folder, 'sheet.png'));
    };
    const sheet = await sample('run');
    for (const from of ['pulled', `hf:${NAME}`]) assert.ok((await sample(from)).equals(sheet), from);
    // What is there is not brought again.
    const before = hub.asked.length;
    await sample(`hf:${NAME}`);
    assert.equal(
      hub.asked.slice(before).filter((each) => !/\/tree\//.test(each)),
      [],
    );
    await succeed(
      folder,
      'train',
      '--init-from',
      `hf:${NAME}`,
      '--data',
      'shapes',
      '--batch',
      '2',
      '--steps',
      '1',
      '--out',
      'more',
      '-q',
    );

    await succeed(folder, 'push', NAME, 'run', '--optimizer', '-q');
    assert.ok(files.has('optimizer.safetensors'));
    await succeed(folder, 'pull', NAME, 'pulled', '--optimizer', '-q');
    assert.ok((await readdir(join(folder, 'pulled'))).includes('optimizer.safetensors'));
    for (const output of [pushed, pulled]) assert.not.ok((output.out + output.err).includes(TOKEN));
  }));

test('a download that was cut goes on where it ended', () =>
  withHub(async (hub, folder) => {
    await succeed(folder, 'push', NAME, 'run', '-q');
    const { bytes } = hub.files.get(NAME)!.get('ema.safetensors')!;
    hub.cutAfter = bytes.length - 1000;
    assert.match(
      await refuse(folder, 1, 'pull', NAME, 'pulled', '-q'),
      /cannot be reached|ended after \d+ of \d+ bytes/,
    );
    const [part] = (await readdir(join(folder, 'pulled'))).filter((name) => name.endsWith('.part'));
    const { size } = await stat(join(folder, 'pulled', part));
    assert.ok(size > 0 && size < bytes.length, `${size} of ${bytes.length}`);
    const before = hub.asked.length;
    await succeed(folder, 'pull', NAME, 'pulled', '-q');
    assert.ok(
      hub.asked.slice(before).some((each) => each.endsWith(` bytes=${size}-${bytes.length - 1}`)),
      hub.asked.slice(before).join('\n'),
    );
    assert.ok((await readFile(join(folder, 'pulled', 'ema.safetensors'))).equals(bytes));
    assert.not.ok((await readdir(join(folder, 'pulled'))).some((name) => name.endsWith('.part')));
  }));

test('what a repository may not do', () =>
  withHub(async (hub, folder) => {
    await succeed(folder, 'push', NAME, 'run', '-q');
    const files = hub.files.get(NAME)!;
    const list = hub.list;
    const wrong = async (
      pattern: RegExp,
      status: number,
      change: (entries: Record<string, unknown>[]) => unknown,
    ): Promise<void> => {
      hub.list = change;
      assert.match(await refuse(folder, status, 'pull', NAME, 'pulled', '-q'), pattern);
      hub.list = list;
    };
    const sized = (name: string, size: number) => (entries: Record<string, unknown>[]) =>
      entries.map((entry) => (entry.path === name ? { ...entry, size } : entry));
    // Names that lead elsewhere are none of ours, and are passed over.
    files.set('../outside.txt', { bytes: Buffer.from('x'), lfs: false });
    files.set('samples/../../outside.txt', { bytes: Buffer.from('x'), lfs: false });
    await succeed(folder, 'pull', NAME, 'first', '-q');
    assert.not.ok((await readdir(folder)).includes('outside.txt'));
    const before = hub.asked.length;
    await wrong(
      /ema\.safetensors of somebody\/shapes has 1000000000000 bytes, expected at most \d+, as its configuration says/,
      3,
      sized('ema.safetensors', 1e12),
    );
    await wrong(/config\.json of .* has 99999999 bytes, expected at most 4194304/, 3, sized('config.json', 99_999_999));
    await wrong(/size is -1, expected at least 0/, 3, sized('ema.safetensors', -1));
    await wrong(/has no config\.json, expected a repository that dis-cli push made/, 3, () => []);
    await wrong(/has more than 10000 files/, 1, () =>
      Array.from({ length: 10_001 }, (_, i) => ({ type: 'file', path: `${i}`, size: 1 })),
    );
    await wrong(/answers with more than 16777216 bytes/, 1, () => [{ path: 'x'.repeat(17e6) }]);
    assert.not.ok(
      hub.asked.slice(before).some((each) => /resolve.*ema/.test(each)),
      'nothing of it was fetched',
    );
    // Other contents than were announced.
    const ema = files.get('ema.safetensors')!;
    const damaged = Buffer.from(ema.bytes);
    await succeed(folder, 'pull', NAME, 'second', '-q');
    damaged[damaged.length - 1] ^= 1;
    hub.list = (entries) => {
      files.set('ema.safetensors', { ...ema, bytes: damaged });
      return entries;
    };
    assert.match(
      await refuse(folder, 1, 'pull', NAME, 'third', '-q'),
      /ema\.safetensors of somebody\/shapes has the SHA-256 [0-9a-f]{64}, and [0-9a-f]{64} was announced/,
    );
    assert.not.ok((await readdir(join(folder, 'third'))).includes('ema.safetensors'));
    hub.list = list;
    files.set('ema.safetensors', ema);
    files.set('config.json', { bytes: Buffer.from('{"format":"dis-run","version":1,"settings":{}}'), lfs: false });
    assert.match(
      await refuse(folder, 3, 'pull', NAME, 'fourth', '-q'),
      /^config\.json of somebody\/shapes: settings\.\S+ is missing/,
    );
  }));

test('what is wrong is told in one sentence, without the token', () =>
  withHub(async (hub, folder) => {
    await mkdir(join(folder, 'full'));
    await writeFile(join(folder, 'full', 'note.txt'), 'x');
    await succeed(folder, 'push', NAME, 'run', '-q');
    const cases: [args: string[], status: number, pattern: RegExp][] = [
      [['push', 'shapes', 'run'], 2, /^"shapes" is no repository of the Hub, expected OWNER\/NAME\.$/],
      [['pull', '../..', 'x'], 2, /^"\.\.\/\.\." is no repository/],
      [
        ['pull', 'somebody/other', 'x'],
        1,
        /refuses the list of somebody\/other: there is no such repository, or it is private/,
      ],
      [['push', NAME, 'nowhere'], 3, /^nowhere does not exist/],
      [['push', NAME, officialPath('zip.pt')], 3, /is a file/],
      [['pull', NAME, 'full'], 3, /^full holds note\.txt, expected a new or empty folder/],
    ];
    for (const [args, status, pattern] of cases)
      assert.match(await refuse(folder, status, ...args), pattern, args.join(' '));
    const told: string[] = [];
    process.env.HF_TOKEN = 'hf_another';
    told.push(await refuse(folder, 1, 'push', NAME, 'run', '-q'));
    assert.match(told[0], /refuses the token: the token does not allow it/);
    process.env.HF_TOKEN = 'secret';
    told.push(await refuse(folder, 2, 'push', NAME, 'run', '-q'));
    assert.match(told[1], /^The Hub's token does not begin with hf_/);
    delete process.env.HF_TOKEN;
    assert.match(await refuse(folder, 2, 'push', NAME, 'run', '-q'), /^Pushing needs a token of the Hub/);
    assert.match(await refuse(folder, 1, 'pull', NAME, 'x', '-q'), /it asks for a token; set HF_TOKEN/);
    for (const each of told) assert.not.match(each, /hf_another|secret/);
    process.env.HF_TOKEN = TOKEN;
    process.env.HF_ENDPOINT = 'nonsense';
    assert.match(
      await refuse(folder, 2, 'pull', NAME, 'x'),
      /^HF_ENDPOINT is "nonsense", expected the address of a Hub/,
    );
    await hub.close();
    process.env.HF_ENDPOINT = hub.url;
    assert.match(await refuse(folder, 1, 'pull', NAME, 'x'), /cannot be reached \(\w+\); check the network/);
  }));

test('the token is read where the tools of the Hub read it', () =>
  withFolder(async (folder) => {
    await mkdir(join(folder, 'huggingface'));
    await writeFile(join(folder, 'huggingface', 'token'), 'hf_cache\n');
    await writeFile(join(folder, 'token'), ' hf_home ');
    await writeFile(join(folder, 'path'), 'hf_path');
    const XDG_CACHE_HOME = folder;
    assert.is(await hubToken({ XDG_CACHE_HOME }), 'hf_cache');
    assert.is(await hubToken({ XDG_CACHE_HOME, HF_HOME: folder }), 'hf_home');
    assert.is(await hubToken({ XDG_CACHE_HOME, HF_HOME: folder, HF_TOKEN_PATH: join(folder, 'path') }), 'hf_path');
    assert.is(await hubToken({ XDG_CACHE_HOME, HF_TOKEN: 'hf_set' }), 'hf_set');
    assert.is(await hubToken({ HF_HOME: join(folder, 'none') }), undefined);
  }));

test.run();
