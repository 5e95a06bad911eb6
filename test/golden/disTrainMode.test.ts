// Training mode against the official class: the recorded random draws drop the same branches and labels.

import * as assert from 'uvu/assert';
import { Generator, grad, noGrad, scope, type Device, type Tensor } from '../../core/index.ts';
import { disConfig, disOptionsFromOfficial } from '../../models/dis/config.ts';
import { Dis, type DisForwardOptions } from '../../models/dis/dis.ts';
import { dropPathPlan } from '../../models/dis/draws.ts';
import { gpuFamily, read } from './gpu.ts';
import {
  assertClose,
  familiesOf,
  limitOf,
  loadGolden,
  need,
  numbers,
  relativeToPeak,
  subset,
  truth,
  type Golden,
  type ReferenceErrors,
} from './support.ts';

const LIMIT = 2e-5;
const GRADIENT_LIMIT = 1e-4;

interface Sidecar extends ReferenceErrors {
  config: Record<string, unknown>;
  calls: { keep_prob: number }[];
}

function forward(model: Dis, device: Device, golden: Golden, options?: DisForwardOptions): Tensor {
  const [x, t] = [read(device, golden, 'in.x'), read(device, golden, 'in.t')];
  return model.forward(x, t, golden.has('in.labels') ? read(device, golden, 'in.labels') : null, options);
}

for (const { path, sidecar } of familiesOf<Sidecar>(
  'models',
  'a model in training mode',
  (s) => s.calls !== undefined,
)) {
  gpuFamily(path, (test) => {
    const golden = loadGolden(path);
    const config = disConfig(disOptionsFromOfficial(sidecar.config));
    let model: Dis;
    test.before(({ device }) => {
      using generator = new Generator(device);
      model = scope(() => new Dis(generator, config));
      model.loadStateDict(subset(golden, 'param'));
    });

    test('probabilities of keeping a branch', () => {
      assert.ok(
        relativeToPeak(
          dropPathPlan(config).keepProbs,
          sidecar.calls.map((call) => call.keep_prob),
        ) < 1e-7,
      );
    });

    test('result and gradients with the recorded draws', async ({ device, own }) => {
      const parameters = [...model.namedParameters()];
      const [y, ...gradients] = scope(() => {
        const draws = { keep: read(device, golden, 'in.keep_mask'), labels: read(device, golden, 'in.label_rand') };
        const out = forward(model, device, golden, { draws });
        const loss = out.mul(read(device, golden, 'in.r')).mean();
        const all = parameters.map(([, p]) => p);
        return [out, ...grad(loss, all)];
      }).map((t) => own(t!));
      assertClose(await y.data(), truth(golden, 'out', 'y'), limitOf(LIMIT, sidecar, 'y'), 'y');
      const limit = limitOf(GRADIENT_LIMIT, sidecar, 'gradparam');
      for (const [i, [name]] of parameters.entries())
        assertClose(await gradients[i].data(), truth(golden, 'gradparam', name), limit, `gradient of ${name}`);
    });

    test('eval mode drops nothing', async ({ device, own }) => {
      model.eval();
      const y = own(noGrad(() => scope(() => forward(model, device, golden))));
      model.train();
      // What training keeps it scales up, so that the two differ whatever is dropped.
      assert.ok(relativeToPeak(await y.data(), numbers(need(golden, 'out64.y'))) > 100 * LIMIT);
    });
  });
}
