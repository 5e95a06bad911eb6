// The bidirectional mixer against the official one: result and all gradients.

import { Generator, grad, openDevice, scope, tensor, type Device, type Tensor } from '../../core/index.ts';
import { Mamba } from '../../nn/mamba.ts';
import { assertClose, cases, family, loadGolden, loadSidecar, need, numbers, subset, type Golden } from './support.ts';

const LIMIT = 2e-5;
const GRADIENT_LIMIT = 5e-5;

interface MixerCase {
  d_model: number;
  d_state: number;
  d_conv: number;
  expand: number;
  dt_rank: number;
  bias?: boolean;
  conv_bias?: boolean;
}

family(
  'nn/mamba_mixer',
  (test) => {
    const settings = loadSidecar<{ cases: Record<string, MixerCase> }>('nn/mamba_mixer').cases;
    let device: Device;
    test.before(async () => {
      device = await openDevice();
    });
    test.after(() => device.destroy());

    for (const [name, group] of cases(loadGolden('nn/mamba_mixer'))) {
      test(`${name} (${need(group, 'in.x').shape.join(',')})`, async () => {
        const c = settings[name];
        const mixer = scope(
          () =>
            new Mamba(new Generator(device), {
              dModel: c.d_model,
              dState: c.d_state,
              dConv: c.d_conv,
              expand: c.expand,
              dtRank: c.dt_rank,
              bias: c.bias,
              convBias: c.conv_bias,
            }),
        );
        mixer.loadStateDict(subset(group, 'param'));
        const read = (key: string): Tensor =>
          tensor(device, Float32Array.from(numbers(need(group, key))), { shape: need(group, key).shape });
        const parameters = [...mixer.namedParameters()];
        const [y, dx, ...gradients] = scope(() => {
          const x = read('in.x').requiresGrad_();
          const out = mixer.forward(x);
          return [out, ...grad(out, [x, ...parameters.map(([, p]) => p)], { gradient: read('in.dout') })];
        });
        assertClose(await y!.data(), need(group, 'out64.y'), LIMIT, 'y');
        assertClose(await dx!.data(), group.get('grad64.x') ?? need(group, 'grad.x'), GRADIENT_LIMIT, 'gradient of x');
        const truth: Golden = subset(group, 'gradparam64');
        for (let i = 0; i < parameters.length; i++) {
          const [parameter] = parameters[i];
          assertClose(await gradients[i]!.data(), need(truth, parameter), GRADIENT_LIMIT, `gradient of ${parameter}`);
        }
      });
    }
  },
  ['nn/mamba_mixer.safetensors', 'nn/mamba_mixer.json'],
);
