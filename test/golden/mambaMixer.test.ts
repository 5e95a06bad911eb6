// The bidirectional mixer against the official one: result and all gradients.

import { Generator, grad, scope } from '../../core/index.ts';
import { Mamba } from '../../nn/mamba.ts';
import { gpuFamily, read } from './gpu.ts';
import {
  assertClose,
  cases,
  limitOf,
  loadGolden,
  loadSidecar,
  need,
  subset,
  truth,
  type ReferenceErrors,
} from './support.ts';

const PATH = 'nn/mamba_mixer';
const LIMIT = 2e-5;
const GRADIENT_LIMIT = 5e-5;

interface Sidecar extends ReferenceErrors {
  cases: Record<
    string,
    {
      d_model: number;
      d_state: number;
      d_conv: number;
      expand: number;
      dt_rank: number;
      bias?: boolean;
      conv_bias?: boolean;
    }
  >;
}

gpuFamily(
  PATH,
  (test) => {
    const sidecar = loadSidecar<Sidecar>(PATH);
    for (const [name, group] of cases(loadGolden(PATH))) {
      test(`${name} (${need(group, 'in.x').shape.join(',')})`, async ({ device, own }) => {
        const c = sidecar.cases[name];
        const generator = own(new Generator(device));
        const mixer = scope(
          () =>
            new Mamba(generator, {
              dModel: c.d_model,
              dState: c.d_state,
              dConv: c.d_conv,
              expand: c.expand,
              dtRank: c.dt_rank,
              bias: c.bias,
              convBias: c.conv_bias,
            }),
        );
        own(mixer);
        mixer.loadStateDict(subset(group, 'param'));
        const parameters = [...mixer.namedParameters()];
        const [y, dx, ...gradients] = scope(() => {
          const x = read(device, group, 'in.x').requiresGrad_();
          const out = mixer.forward(x);
          return [
            out,
            ...grad(out, [x, ...parameters.map(([, p]) => p)], { gradient: read(device, group, 'in.dout') }),
          ];
        }).map((t) => own(t!));
        assertClose(await y.data(), truth(group, 'out', 'y'), limitOf(LIMIT, sidecar, 'y'), 'y');
        assertClose(
          await dx.data(),
          truth(group, 'grad', 'x'),
          limitOf(GRADIENT_LIMIT, sidecar, 'grad.x'),
          'gradient of x',
        );
        const limit = limitOf(GRADIENT_LIMIT, sidecar, 'gradparam');
        for (const [i, [parameter]] of parameters.entries())
          assertClose(
            await gradients[i].data(),
            truth(group, 'gradparam', parameter),
            limit,
            `gradient of ${parameter}`,
          );
      });
    }
  },
  [`${PATH}.safetensors`, `${PATH}.json`],
);
