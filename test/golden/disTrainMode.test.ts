// Training mode against the official class: the recorded random draws drop the same branches and labels.

import * as assert from 'uvu/assert';
import { Generator, grad, noGrad, openDevice, scope, type Device } from '../../core/index.ts';
import { disConfig, disOptionsFromOfficial } from '../../models/dis/config.ts';
import { Dis } from '../../models/dis/dis.ts';
import { dropPathPlan } from '../../models/dis/draws.ts';
import { read } from './gpu.ts';
import { assertClose, family, loadGolden, loadSidecar, need, relativeToPeak, subset } from './support.ts';

const PATH = 'models/dis_classcond_trainmode';
const LIMIT = 2e-5;
const GRADIENT_LIMIT = 1e-4;

family(
  PATH,
  (test) => {
    const golden = loadGolden(PATH);
    const sidecar = loadSidecar<{ config: Record<string, unknown>; calls: { keep_prob: number }[] }>(PATH);
    const config = disConfig(disOptionsFromOfficial(sidecar.config));
    let device: Device;
    let model: Dis;
    test.before(async () => {
      device = await openDevice();
      model = scope(() => new Dis(new Generator(device), config));
      model.loadStateDict(subset(golden, 'param'));
    });
    test.after(() => device.destroy());

    test('probabilities of keeping a branch', () => {
      assert.ok(
        relativeToPeak(
          dropPathPlan(config).keepProbs,
          sidecar.calls.map((call) => call.keep_prob),
        ) < 1e-7,
      );
    });

    test('result and gradients with the recorded draws', async () => {
      const parameters = [...model.namedParameters()];
      const [y, ...gradients] = scope(() => {
        const draws = { keep: read(device, golden, 'in.keep_mask'), labels: read(device, golden, 'in.label_rand') };
        const out = model.forward(
          read(device, golden, 'in.x'),
          read(device, golden, 'in.t'),
          read(device, golden, 'in.labels'),
          { draws },
        );
        return [
          out,
          ...grad(
            out.mul(read(device, golden, 'in.r')).mean(),
            parameters.map(([, p]) => p),
          ),
        ];
      });
      assertClose(await y!.data(), need(golden, 'out64.y'), LIMIT, 'y');
      for (let i = 0; i < parameters.length; i++) {
        const [name] = parameters[i];
        assertClose(
          await gradients[i]!.data(),
          golden.get(`gradparam64.${name}`) ?? need(golden, `gradparam.${name}`),
          GRADIENT_LIMIT,
          `gradient of ${name}`,
        );
      }
    });

    test('eval mode drops nothing', async () => {
      model.eval();
      const y = noGrad(() =>
        scope(() =>
          model.forward(read(device, golden, 'in.x'), read(device, golden, 'in.t'), read(device, golden, 'in.labels')),
        ),
      );
      model.train();
      assert.ok(relativeToPeak(await y.data(), need(golden, 'out64.y').data as Float32Array) > 1e-2);
    });
  },
  [`${PATH}.safetensors`, `${PATH}.json`],
);
