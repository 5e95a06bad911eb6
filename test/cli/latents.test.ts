// Latent diffusion from end to end, at the smallest sizes: pictures → train-vae → encode → train --latents → sample → PNG; what is
// interrupted goes on, and what does not fit is refused in a sentence.

import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { shapesItem } from '../../models/data/shapes.ts';
import { readSafetensors } from '../../nn/index.ts';
import { cli, metrics, refuse, succeed, withFolder } from './support.ts';

const test = suite('latents');

/** Sixteen drawn pictures in two class folders. */
async function pictures(root: string): Promise<string> {
  for (const [k, name] of ['circle', 'square'].entries()) {
    await mkdir(join(root, 'pictures', name), { recursive: true });
    for (let i = 0; i < 8; i++) {
      const { pixels } = shapesItem(10 * i + k, { size: 16 });
      await sharp(pixels, { raw: { width: 16, height: 16, channels: 3 } })
        .png()
        .toFile(join(root, 'pictures', name, `${i}.png`));
    }
  }
  return join(root, 'pictures');
}

const VAE = [
  '--checkpoint-every',
  '2',
  '--image-size',
  '16',
  '--widths',
  '4,8',
  '--groups',
  '2',
  '--latent-channels',
  '3',
  '--batch',
  '4',
];
const MODEL = ['--model', 'DiS-N/2', '--embed-dim', '8', '--depth', '2', '--d-state', '2', '--batch', '4', '--flip'];

test('pictures → train-vae → encode → train --latents → sample', () =>
  withFolder(async (root) => {
    const data = await pictures(root);
    const vae = join(root, 'vae'),
      latents = join(root, 'latents'),
      run = join(root, 'run');

    const first = await succeed(
      root,
      'train-vae',
      '--data',
      data,
      ...VAE,
      '--held-out',
      '4',
      '--steps',
      '3',
      '--out',
      vae,
    );
    assert.match(first.out, /^PSNR -?\d+\.\d\d dB on 4 pictures that it has not seen/);
    assert.match(first.err, /no perceptual term/);
    const checkpoint = join(vae, 'checkpoints', 'step-00000003');
    const config = JSON.parse(await readFile(join(checkpoint, 'config.json'), 'utf8')) as Record<string, unknown>;
    assert.is(config._class_name, 'AutoencoderKL');
    assert.equal(config.block_out_channels, [4, 8]);
    const { tensors } = readSafetensors(await readFile(join(checkpoint, 'diffusion_pytorch_model.safetensors')));
    assert.ok(tensors.has('encoder.mid_block.attentions.0.to_out.0.weight'));
    assert.is((await sharp(join(vae, 'samples', 'step-00000003.png')).metadata()).format, 'png');

    // A run that goes on is the run that was never interrupted.
    const file = join(checkpoint, 'model.safetensors');
    const uninterrupted = await readFile(file);
    await rm(checkpoint, { recursive: true });
    await succeed(root, 'train-vae', '--resume', vae);
    assert.equal(await readFile(file), uninterrupted);
    assert.is((await metrics(vae)).filter((line) => 'loss' in line).length, 3);
    const other = await cli(root, 'train-vae', '--resume', vae, '--lr', '1', '--steps', '6');
    assert.is(other.status, 2);
    assert.match(other.err, /A resumed run keeps its settings; leave --lr out/);

    const encode = ['encode', '--data', data, '--vae', vae, '--out', latents, '--shard', '6', '--batch', '4'];
    await succeed(root, ...encode);
    const index = JSON.parse(await readFile(join(latents, 'index.json'), 'utf8')) as Record<string, unknown>;
    assert.equal([index.count, index.channels, index.size, index.numClasses], [16, 3, 8, 2]);
    const shard = join(latents, 'shard-00001.safetensors');
    const before = await readFile(shard);
    assert.equal(readSafetensors(before).tensors.get('mirrored')?.shape, [6, 3, 8, 8]);
    // What is missing is encoded again, to the same bits; the rest is left alone.
    await rm(shard);
    const missing = await cli(
      root,
      'train',
      '--latents',
      latents,
      ...MODEL,
      '--steps',
      '1',
      '--out',
      join(root, 'none'),
    );
    assert.match(missing.err, /has no shard-00001\.safetensors, expected 3 shards; run the same dis-cli encode again/);
    await succeed(root, ...encode);
    assert.equal(await readFile(shard), before);
    const different = await cli(root, ...encode, '--no-mirrored');
    assert.match(different.err, /holds other latents: their mirrored is another/);

    await succeed(root, 'train', '--latents', latents, ...MODEL, '--steps', '2', '--sample-every', '2', '--sample-steps', '2', '--out', run); // prettier-ignore
    const sheet = await sharp(join(run, 'samples', 'step-00000002.png')).metadata();
    await succeed(root, 'train', '--resume', run, '--steps', '3', '--sample-every', '0');
    await succeed(root, 'sample', run, '--steps', '2', '--count', '2', '--out', 'out.png', '--each', 'each');
    const picture = await sharp(join(root, 'each', '0-circle.png')).metadata();
    assert.equal([picture.width, picture.height, picture.channels], [16, 16, 3]);
    assert.is((await sharp(join(root, 'out.png')).metadata()).format, 'png');
    assert.ok((sheet.width ?? 0) >= 4 * 64);
    // A set of samples is decoded too, group by group.
    await succeed(root, 'sample', run, '--steps', '2', '--count', '3', '--batch', '2', '--folder', 'set');
    const last = await sharp(join(root, 'set', '00000', 'img00000002.png')).metadata();
    assert.equal([last.width, last.height, last.channels], [16, 16, 3]);
    const of = join(latents, 'vae');
    await succeed(root, 'sample', run, '--steps', '2', '--count', '3', '--batch', '2', '--vae', of, '--out', 'set.npz');
    const drawn = await sharp(join(root, 'set', '00000', 'img00000000.png'))
      .raw()
      .toBuffer();
    assert.ok((await readFile(join(root, 'set.npz'))).includes(drawn), 'the same pictures in one file');

    const both = await cli(root, 'train', '--latents', latents, '--data', data, '--out', join(root, 'none'));
    assert.match(both.err, /Both --data and --latents are given/);
  }));

test('train --vae encodes at each step, and goes on bit for bit', () =>
  withFolder(async (root) => {
    const data = await pictures(root);
    const vae = join(root, 'vae'),
      whole = join(root, 'whole'),
      parts = join(root, 'parts');
    await succeed(root, 'train-vae', '--data', data, ...VAE, '--held-out', '4', '--steps', '2', '--out', vae);
    const begin = ['train', '--data', data, '--vae', vae, '--image-size', '16', ...MODEL];
    const online = [...begin, '--sample-steps', '2'];
    await succeed(root, ...online, '--steps', '6', '--sample-every', '6', '--out', whole);
    const sheet = await sharp(join(whole, 'samples', 'step-00000006.png')).metadata();
    // Four samples of each of two classes, as pictures of 16 pixels, twice as wide as their latents.
    assert.ok((sheet.width ?? 0) >= 4 * 16);
    const { settings, model } = JSON.parse(await readFile(join(whole, 'config.json'), 'utf8')) as {
      settings: { imageSize: number; vae: { folder: string; scalingFactor: number; online: unknown } };
      model: { imgSize: number; channels: number };
    };
    assert.equal([settings.imageSize, model.imgSize, model.channels], [8, 8, 3]);
    assert.equal(settings.vae.online, { factor: 2, inChannels: 3, latentChannels: 3, posterior: 'sample' });
    assert.is(settings.vae.folder, join(vae, 'checkpoints', 'step-00000002'));

    assert.match(await refuse(root, 2, 'eval', whole, data), /is a run on latents.*sample .* --folder samples/);

    // An epoch has four steps: the second part ends in another one than it begins. The autoencoder may lie elsewhere by then.
    await succeed(root, ...online, '--steps', '3', '--sample-every', '0', '--out', parts);
    const moved = join(root, 'moved');
    await rename(vae, moved);
    const resume = ['train', '--resume', parts, '--steps', '6'];
    assert.match(await refuse(root, 3, ...resume), /Cannot open .*step-00000002: it does not exist; check the path/);
    await succeed(root, ...resume, '--vae', moved, '--image-size', '16');
    const weights = (run: string): Promise<Buffer> =>
      readFile(join(run, 'checkpoints', 'step-00000006', 'model.safetensors'));
    assert.equal(await weights(parts), await weights(whole));
    // Only the draw is another.
    const mode = join(root, 'mode');
    const most = begin.map((word) => (word === vae ? moved : word));
    await succeed(root, ...most, '--posterior', 'mode', '--steps', '1', '--sample-every', '0', '--out', mode);
    assert.is.not((await metrics(mode))[0].loss, (await metrics(whole))[0].loss);

    const none = ['--out', join(root, 'none')];
    assert.match(
      await refuse(root, 2, ...most, '--image-size', '15', ...none),
      /a multiple of the 2 pixels of a latent/,
    );
    assert.match(
      await refuse(root, 2, ...most, '--channels', '1', ...none),
      /--channels is 1, but .* takes 3; leave it out/,
    );
    assert.match(await refuse(root, 2, ...most, '--eval-every', '2', ...none), /the run is on latents/);
    assert.match(await refuse(root, 2, 'train', '--data', data, '--posterior', 'mode', ...none), /give --vae with it/);
    assert.match(
      await refuse(root, 2, ...resume, '--vae', moved, '--posterior', 'mode'),
      /--posterior is mode and was sample/,
    );
    await succeed(root, 'train-vae', '--resume', moved, '--steps', '3');
    assert.match(await refuse(root, 2, ...resume, '--vae', moved), /is another autoencoder than the one/);
  }));

test("an autoencoder's folder of somebody else is checked before anything is made", () =>
  withFolder(async (root) => {
    const data = await pictures(root);
    const vae = join(root, 'vae');
    await mkdir(vae);
    const encode = (): Promise<{ status: number | null; err: string }> =>
      cli(root, 'encode', '--data', data, '--vae', vae, '--out', join(root, 'latents'));
    assert.match(
      (await encode()).err,
      /holds no autoencoder, expected config\.json and diffusion_pytorch_model\.safetensors/,
    );
    await writeFile(join(vae, 'diffusion_pytorch_model.safetensors'), 'nothing');
    await writeFile(join(vae, 'config.json'), '{"_class_name": "UNet2DModel"}');
    assert.match((await encode()).err, /config\.json: _class_name is "UNet2DModel", expected AutoencoderKL/);
    await writeFile(join(vae, 'config.json'), '{"_class_name": "AutoencoderKL", "block_out_channels": [65536, 65536]}');
    const damaged = await encode();
    assert.is(damaged.status, 3);
    assert.match(damaged.err, /diffusion_pytorch_model\.safetensors is damaged/);
    assert.match(
      (await cli(root, 'encode', '--data', data, '--vae', join(root, 'nowhere'))).err,
      /Cannot open .*nowhere: it does not exist; check the path/,
    );
  }));

test.run();
