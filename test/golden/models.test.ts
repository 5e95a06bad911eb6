// DiS against the official class: intermediate values, outputs, guidance and all gradients of small models with every
// option.

import * as assert from 'uvu/assert';
import { Generator, grad, keep, noGrad, scope, type Device, type Tensor } from '../../core/index.ts';
import { disConfig, disOptionsFromOfficial } from '../../models/dis/config.ts';
import { Dis } from '../../models/dis/dis.ts';
import { gpuFamily, read } from './gpu.ts';
import {
  assertClose,
  assertMean,
  familiesOf,
  hasGolden,
  limitOf,
  loadGolden,
  need,
  numbers,
  reportAbsent,
  subset,
  truth,
  type ReferenceErrors,
} from './support.ts';

const LIMIT = 2e-5;
const GRADIENT_LIMIT = 1e-4;
/** With the blocks' matrices and activations in f16, which keeps 11 bits: 5e-4 a rounding. */
const F16_LIMIT = 2e-3;
const F16_GRADIENT_LIMIT = 2e-2;
/** Brings gradients of a mean into f16's range. */
const F16_LOSS_SCALE = 2 ** 12;
/** The official code guides these, whatever the model has. */
const GUIDED_CHANNELS = 3;

interface Sidecar extends ReferenceErrors {
  config: Record<string, unknown>;
  in_eval_mode: boolean;
}

for (const { path, sidecar } of familiesOf<Sidecar>(
  'models',
  'small models in eval mode',
  (s, at) => s.config !== undefined && s.in_eval_mode === true && hasGolden(`${at}.safetensors`),
)) {
  gpuFamily(path, (test) => {
    const golden = loadGolden(path);
    // The fixtures have the gradients of some parameters only.
    const known = new Set(['gradparam', 'gradparam64'].flatMap((kind) => [...subset(golden, kind).keys()]));
    assert.ok(known.size > 0);
    let model: Dis;
    test.before(({ device }) => {
      using generator = new Generator(device);
      model = scope(() => new Dis(generator, disConfig(disOptionsFromOfficial(sidecar.config)))).eval();
      model.loadStateDict(subset(golden, 'param'));
    });
    const labels = (device: Device, prefix: string): Tensor | null =>
      golden.has(`${prefix}in.labels`) ? read(device, golden, `${prefix}in.labels`) : null;

    test('intermediate values, result, loss and gradients', async ({ device, own }) => {
      const parameters = [...model.namedParameters()];
      const taps = new Map<string, Tensor>();
      const [y, loss, dx, ...gradients] = scope(() => {
        const x = read(device, golden, 'in.x').requiresGrad_();
        const tap = (key: string, value: Tensor): void => {
          if (golden.has(`tap.${key}`)) taps.set(key, own(keep(noGrad(() => value.clone()))));
        };
        const out = model.forward(x, read(device, golden, 'in.t'), labels(device, ''), { tap });
        const mean = out.mul(read(device, golden, 'in.r')).mean();
        return [out, mean, ...grad(mean, [x, ...parameters.map(([, p]) => p)])];
      }).map((t) => own(t!));
      const limit = limitOf(LIMIT, sidecar, 'y'),
        gradientLimit = limitOf(GRADIENT_LIMIT, sidecar, 'grad.x', 'gradparam');
      for (const key of subset(golden, 'tap').keys())
        assertClose(await taps.get(key)!.data(), need(golden, `tap.${key}`), limit, key);
      assertClose(await y.data(), truth(golden, 'out', 'y'), limit, 'y');
      assertMean(
        await loss.item(),
        numbers(truth(golden, 'out', 'loss'))[0],
        numbers(truth(golden, 'out', 'y')),
        numbers(need(golden, 'in.r')),
        limit,
        'loss',
      );
      assertClose(await dx.data(), truth(golden, 'grad', 'x'), gradientLimit, 'gradient of x');
      for (const [i, [key]] of parameters.entries())
        if (known.has(key))
          assertClose(await gradients[i].data(), truth(golden, 'gradparam', key), gradientLimit, `gradient of ${key}`);
    });

    for (const key of subset(golden, 'cfg.out').keys()) {
      test(`guidance, ${key}`, async ({ device, own }) => {
        const y = noGrad(() =>
          scope(() =>
            model.forwardWithCfg(
              read(device, golden, 'cfg.in.x'),
              read(device, golden, 'cfg.in.t'),
              labels(device, 'cfg.')!,
              Number(key.slice('scale'.length)),
              { channels: GUIDED_CHANNELS },
            ),
          ),
        );
        assertClose(await own(y).data(), need(golden, `cfg.out.${key}`), limitOf(LIMIT, sidecar, 'y'), 'y');
      });
    }

    test('with matrices in f16: result and gradients', { needs: 'shader-f16' }, async ({ device, own }) => {
      model.to('f16');
      const parameters = [...model.namedParameters()];
      const [y, ...gradients] = scope(() => {
        const out = model.forward(read(device, golden, 'in.x'), read(device, golden, 'in.t'), labels(device, ''));
        const loss = out
          .mul(read(device, golden, 'in.r'))
          .mean()
          .mul(F16_LOSS_SCALE);
        return [
          out,
          ...grad(
            loss,
            parameters.map(([, p]) => p),
          ),
        ];
      }).map((t) => own(t!));
      assertClose(await y.data(), truth(golden, 'out', 'y'), F16_LIMIT, 'y');
      for (const [i, [key, { dtype }]] of parameters.entries()) {
        assert.is(gradients[i].dtype, dtype);
        if (!known.has(key)) continue;
        const values = Float32Array.from(await gradients[i].data(), (v) => v / F16_LOSS_SCALE);
        assertClose(values, truth(golden, 'gradparam', key), F16_GRADIENT_LIMIT, `gradient of ${key}`);
      }
    });
  });
}

reportAbsent('models');
