// The autoencoder beside its golden values: both namings of the attention's weights, tiles, gradients, f16, scaling, and what its
// configuration refuses.

import * as assert from 'uvu/assert';
import { Generator, noGrad, scope, tensor, type Device, type Tensor } from '../../../core/index.ts';
import {
  AutoencoderKL,
  decoderMultiplyAdds,
  fromDiffusers,
  toDiffusers,
  vaeConfig,
  vaeParameterCount,
  vaeShapes,
  type DiffusersVae,
} from '../../../models/vae/index.ts';
import { tileShares, tileStarts } from '../../../models/vae/tiles.ts';
import { assertClose, gpuSuite, hasFeature, peakError, uniform } from '../../support.ts';

const test = gpuSuite('AutoencoderKL');
const SMALL = vaeConfig({ blockOutChannels: [4, 8], layersPerBlock: 1, normNumGroups: 2, sampleSize: 16 });

function make(device: Device, own: <T extends { dispose(): void }>(item: T) => T, config = SMALL): AutoencoderKL {
  return own(scope(() => new AutoencoderKL(own(new Generator(device, 5)), config)));
}

const picture = (device: Device, shape: number[]): Tensor =>
  tensor(device, uniform(shape.reduce((a, b) => a * b, 1)), { shape });

test('loads the older names of the attention, and shapes agree with the model', async ({ device, own }) => {
  const model = make(device, own);
  assert.equal(
    vaeShapes(SMALL).map(([name]) => name).sort(), // prettier-ignore
    [...model.stateDict().keys()].sort(),
  );
  assert.is(vaeParameterCount(SMALL), model.parameterCount());
  const old = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const [name, t] of model.stateDict()) {
    const before = name
      .replace('.to_q.', '.query.')
      .replace('.to_k.', '.key.')
      .replace('.to_v.', '.value.')
      .replace('.to_out.0.', '.proj_attn.');
    old.set(before, { shape: t.shape, data: (await t.data()) as Float32Array });
  }
  assert.is([...old.keys()].filter((name) => /\.(query|key|value|proj_attn)\./.test(name)).length, 16);
  const second = own(scope(() => new AutoencoderKL(own(new Generator(device, 6)), SMALL)));
  second.loadStateDict(old);
  const z = own(picture(device, [1, 4, 4, 4]));
  const [a, b] = [model, second].map((m) => own(noGrad(() => m.decode(z))));
  assert.equal(await a.data(), await b.data());
});

test('tiles give what the whole gives but near where they meet, without a seam', async ({ device, own }) => {
  const model = make(device, own);
  const z = own(picture(device, [1, 4, 21, 13]));
  const [whole, tiled] = noGrad(() => [model.decode(z), model.decodeTiled(z, { tile: 16, overlap: 8 })]).map(own);
  assert.equal(tiled.shape, [1, 3, 42, 26]);
  const [a, b] = [await whole.data(), await tiled.data()];
  // Norms and attention see a tile; a random network has much of them.
  assert.ok(peakError(b, a) < 0.15, `${peakError(b, a)}`);
  // A seam would be a step between neighbours that the whole picture does not have. Its own largest step is the measure.
  const steps = (x: ArrayLike<number>): number =>
    Math.max(...Array.from({ length: x.length - 26 }, (_, i) => Math.abs(x[i + 26] - x[i])));
  assert.ok(steps(b) < 1.1 * steps(a), `${steps(b)} and ${steps(a)}`);
  const [one, same] = noGrad(() => [model.decode(z), model.decodeTiled(z, { tile: 21 })]).map(own);
  assert.equal(await one.data(), await same.data());
  const x = own(picture(device, [1, 3, 20, 36]));
  const means = noGrad(() => scope(() => [model.encode(x).mean, model.encodeTiled(x, { tile: 12 }).mean])).map(own);
  assert.equal(means[1].shape, [1, 4, 10, 18]);
  assert.ok(peakError(await means[1].data(), await means[0].data()) < 0.35);
  assert.throws(
    () => model.decodeTiled(z, { tile: 8, overlap: 8 }),
    /overlap is 8, expected a whole number from 0 to 7/,
  );
});

test('shares of tiles add up to 1 and fall to the ends', () => {
  for (const [length, tile, overlap] of [
    [100, 64, 16],
    [65, 64, 16],
    [21, 8, 4],
    [300, 64, 0],
  ]) {
    const starts = tileStarts(length, tile, overlap);
    assert.is(starts[0], 0);
    assert.is(starts.at(-1), length - tile);
    for (let i = 1; i < starts.length; i++) assert.ok(starts[i] - starts[i - 1] <= tile - overlap);
    const total = new Float64Array(length);
    tileShares(length, tile, starts).forEach((share, i) => share.forEach((s, x) => (total[starts[i] + x] += s)));
    assertClose(total, new Float64Array(length).fill(1), 1e-6);
  }
  assert.equal(tileStarts(8, 8, 2), [0]);
});

test('gradients reach every parameter, and agree with differences of the loss', async ({ device, own }) => {
  const model = make(device, own);
  const x = own(picture(device, [1, 3, 4, 4]));
  const noise = own(picture(device, [1, 4, 2, 2]));
  const loss = (): Tensor =>
    scope(() => {
      const posterior = model.encode(x);
      return model.decode(posterior.sample(noise)).sub(x).square().mean().add(posterior.kl().mean().mul(0.1));
    });
  scope(() => loss().backward());
  const missing = [...model.namedParameters()].filter(([, p]) => !p.grad).map(([name]) => name);
  assert.equal(missing, []);
  for (const [name, entry] of [
    ['quant_conv.bias', 5],
    ['encoder.down_blocks.0.downsamplers.0.conv.weight', 3],
    ['decoder.up_blocks.0.upsamplers.0.conv.weight', 7],
    ['decoder.mid_block.attentions.0.to_v.weight', 2],
  ] as const) {
    const p = model.stateDict().get(name)!;
    const [start, gradient] = [Float32Array.from(await p.data()), await p.grad!.data()];
    const at = async (delta: number): Promise<number> => {
      p.write(start.map((v, i) => (i === entry ? v + delta : v)));
      const value = own(noGrad(loss));
      return value.item();
    };
    const numeric = ((await at(0.02)) - (await at(-0.02))) / 0.04;
    p.write(start);
    const scale = Math.max(...Array.from(gradient, Math.abs));
    assert.ok(Math.abs(numeric - gradient[entry]) < 0.03 * scale + 1e-4, `${name}: ${gradient[entry]} and ${numeric}`);
  }
  model.zeroGrad();
});

test('f16, scaling and shift', async ({ device, own }) => {
  const model = make(device, own, vaeConfig({ ...SMALL, scalingFactor: 0.5, shiftFactor: 0.25 }));
  const z = own(picture(device, [1, 4, 3, 3]));
  const latents = own(model.toLatents(z));
  assertClose(await latents.data(), Array.from(await z.data(), (v) => (v - 0.25) * 0.5), 1e-6); // prettier-ignore
  const [direct, back] = noGrad(() => [model.decode(z), model.fromLatents(latents)]).map(own);
  assertClose(await back.data(), await direct.data(), 1e-5);
  if (!hasFeature(device, 'shader-f16')) return;
  model.to('f16');
  const half = own(noGrad(() => model.decode(z)));
  assertClose(await half.data(), await direct.data(), 2e-2);
});

test('configurations: diffusers and back, what is refused, multiply-adds of the decoder', () => {
  const config = vaeConfig({ latentChannels: 16, useQuantConv: false, usePostQuantConv: false, shiftFactor: 0.1 });
  assert.equal(fromDiffusers(toDiffusers(config) as unknown as DiffusersVae), config);
  assert.not.ok(vaeShapes(config).some(([name]) => name.includes('quant_conv')));
  assert.throws(
    () => vaeConfig({ blockOutChannels: [30] }),
    /blockOutChannels is 30, expected multiples of the 32 groups/,
  );
  assert.throws(() => vaeConfig({ blockOutChannels: [] }), /expected 1 to 8 widths/);
  assert.throws(() => vaeConfig({ scalingFactor: 0 }), /scalingFactor is 0/);
  assert.throws(() => vaeConfig({ latentChannels: 1.5 }), /latentChannels is 1.5/);
  // Stable Diffusion's autoencoder has 83,653,863 parameters.
  assert.is(vaeParameterCount(vaeConfig()), 83_653_863);
  // One block, one latent: post_quant_conv, conv_in, middle with attention, two blocks of the decoder, conv_out.
  const tiny = vaeConfig({ blockOutChannels: [2], layersPerBlock: 1, normNumGroups: 1, latentChannels: 1 });
  assert.is(decoderMultiplyAdds(tiny, 1, 1), 1 + 18 + 2 * 72 + (4 * 4 + 2 * 2) + 2 * 72 + 54);
});

test('refuses pictures and latents that do not fit', ({ device, own }) => {
  const model = make(device, own);
  const odd = own(picture(device, [1, 3, 5, 4]));
  assert.throws(
    () => model.encode(odd),
    /pictures have shape \(1,3,5,4\), expected \(N, 3, H, W\) with edges divisible by 2/,
  );
  assert.throws(() => model.decode(odd), /latents have shape \(1,3,5,4\), expected \(N, 4, h, w\)/);
});

test.run();
