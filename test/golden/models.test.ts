// DiS against the official class: intermediate values, outputs, guidance and all gradients of small models with every option.

import * as assert from 'uvu/assert';
import { Generator, grad, keep, noGrad, openDevice, scope, type Device, type Tensor } from '../../core/index.ts';
import { disConfig, disOptionsFromOfficial } from '../../models/dis/config.ts';
import { Dis } from '../../models/dis/dis.ts';
import type { SafetensorsEntry } from '../../nn/formats/safetensors.ts';
import { read } from './gpu.ts';
import { assertClose, family, loadGolden, loadSidecar, need, subset } from './support.ts';

const LIMIT = 2e-5;
const GRADIENT_LIMIT = 1e-4;
/** With the blocks' matrices and activations in f16, which keeps 11 bits: 5e-4 a rounding. */
const F16_LIMIT = 2e-3;
const F16_GRADIENT_LIMIT = 2e-2;
/** Brings gradients of a mean into f16's range. */
const F16_LOSS_SCALE = 2 ** 12;

for (const name of ['dis_uncond', 'dis_classcond', 'dis_latent', 'dis_uncond_p4', 'dis_layernorm_noskip']) {
  const path = `models/${name}`;
  family(
    path,
    (test) => {
      const golden = loadGolden(path);
      const { config } = loadSidecar<{ config: Record<string, unknown> }>(path);
      // In float64 where there is such a run.
      const truth = (kind: string, key: string): SafetensorsEntry =>
        golden.get(`${kind}64.${key}`) ?? need(golden, `${kind}.${key}`);
      // The fixtures have the gradients of some parameters only.
      const known = new Set(['gradparam', 'gradparam64'].flatMap((kind) => [...subset(golden, kind).keys()]));
      assert.ok(known.size > 0);
      let device: Device;
      let model: Dis;
      test.before(async () => {
        device = await openDevice();
        model = scope(() => new Dis(new Generator(device), disConfig(disOptionsFromOfficial(config)))).eval();
        model.loadStateDict(subset(golden, 'param'));
      });
      test.after(() => device.destroy());
      const labels = (prefix: string): Tensor | null =>
        golden.has(`${prefix}in.labels`) ? read(device, golden, `${prefix}in.labels`) : null;

      test('intermediate values, result, loss and gradients', async () => {
        const parameters = [...model.namedParameters()];
        const taps = new Map<string, Tensor>();
        const [y, loss, dx, ...gradients] = scope(() => {
          const x = read(device, golden, 'in.x').requiresGrad_();
          const tap = (key: string, value: Tensor): void => {
            if (golden.has(`tap.${key}`)) taps.set(key, keep(noGrad(() => value.clone())));
          };
          const out = model.forward(x, read(device, golden, 'in.t'), labels(''), { tap });
          const mean = out.mul(read(device, golden, 'in.r')).mean();
          return [out, mean, ...grad(mean, [x, ...parameters.map(([, p]) => p)])];
        });
        for (const key of subset(golden, 'tap').keys())
          assertClose(await taps.get(key)!.data(), need(golden, `tap.${key}`), LIMIT, key);
        assertClose(await y!.data(), truth('out', 'y'), LIMIT, 'y');
        assertClose(await loss!.data(), truth('out', 'loss'), LIMIT, 'loss');
        assertClose(await dx!.data(), truth('grad', 'x'), GRADIENT_LIMIT, 'gradient of x');
        for (let i = 0; i < parameters.length; i++) {
          const [key] = parameters[i];
          if (known.has(key))
            assertClose(await gradients[i]!.data(), truth('gradparam', key), GRADIENT_LIMIT, `gradient of ${key}`);
        }
      });

      for (const key of subset(golden, 'cfg.out').keys()) {
        test(`guidance, ${key}`, async () => {
          const y = noGrad(() =>
            scope(() =>
              model.forwardWithCfg(
                read(device, golden, 'cfg.in.x'),
                read(device, golden, 'cfg.in.t'),
                labels('cfg.'),
                Number(key.slice('scale'.length)),
                { channels: 3 },
              ),
            ),
          );
          assertClose(await y.data(), need(golden, `cfg.out.${key}`), LIMIT, 'y');
        });
      }

      test('with matrices in f16: result and gradients', async () => {
        if (!device.has('shader-f16')) return;
        model.to('f16');
        const parameters = [...model.namedParameters()];
        const [y, ...gradients] = scope(() => {
          const out = model.forward(read(device, golden, 'in.x'), read(device, golden, 'in.t'), labels(''));
          return [
            out,
            ...grad(
              out
                .mul(read(device, golden, 'in.r'))
                .mean()
                .mul(F16_LOSS_SCALE),
              parameters.map(([, p]) => p),
            ),
          ];
        });
        assertClose(await y!.data(), truth('out', 'y'), F16_LIMIT, 'y');
        for (const [i, [key, { dtype }]] of parameters.entries()) {
          assert.is(gradients[i]!.dtype, dtype);
          if (!known.has(key)) continue;
          const values = Float32Array.from(await gradients[i]!.data(), (v) => v / F16_LOSS_SCALE);
          assertClose(values, truth('gradparam', key), F16_GRADIENT_LIMIT, `gradient of ${key}`);
        }
      });
    },
    [`${path}.safetensors`, `${path}.json`],
  );
}
