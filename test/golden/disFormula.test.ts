// Real-size models whose weights anybody can compute: a hash of the element's and the tensor's number. Outputs, and for
// one of them the loss and every parameter's gradient, as its norm and its product with a hash vector.

import * as assert from 'uvu/assert';
import { Generator, grad, noGrad, scope, tensor, type Tensor } from '../../core/index.ts';
import { disConfig, disOptionsFromOfficial, type DisName } from '../../models/dis/config.ts';
import { Dis } from '../../models/dis/dis.ts';
import { disParameterShapes } from '../../models/dis/shapes.ts';
import { numelOf } from '../../core/tensor/shape.ts';
import { gpuFamily, read } from './gpu.ts';
import { hashValue } from './hashFormula.ts';
import {
  assertClose,
  assertMean,
  familiesOf,
  limitOf,
  loadGolden,
  numbers,
  truth,
  type ReferenceErrors,
} from './support.ts';

const LIMIT = 5e-5;
const GRADIENT_LIMIT = 1e-4;
/** Gradients are multiplied by hash vectors with indices from here on. */
const GRADIENT_HASH_INDEX = 200000;

interface Sidecar extends ReferenceErrors {
  model: string;
  config: Record<string, unknown>;
  salt: number;
  r_tensor_index: number;
  t: number[];
  labels: number[] | null;
  sorted_names: string[];
  weight_checks: Record<string, { first: number[]; last: number }>;
  grad?: Record<string, { l2_f64: number; dot_hash_f64: number }>;
}

/** How the reference set makes a parameter of hash values. */
function rule(name: string, shape: readonly number[], dState: number): (v: number, j: number) => number {
  if (/\.A(_b)?_log$/.test(name)) return (v, j) => Math.log((j % dState) + 1) + 0.1 * v;
  if (/\.D(_b)?$/.test(name) || (name.endsWith('weight') && shape.length === 1)) return (v) => 1 + 0.1 * v;
  if (name.endsWith('.dt_proj.bias')) return (v) => -4 + 1.5 * v;
  if (name.endsWith('.dt_proj_b.bias')) return (v) => -2 + 1.5 * v;
  if (name.endsWith('bias')) return (v) => 0.05 * v;
  if (name === 'pos_embed') return (v) => 0.1 * v;
  if (name.endsWith('.embedding_table.weight')) return (v) => 0.3 * v;
  const bound = 1 / Math.sqrt(numelOf(shape.slice(1)));
  return (v) => v * bound;
}

function values(shape: readonly number[], k: number, salt: number, of: (v: number, j: number) => number): Float32Array {
  return Float32Array.from({ length: numelOf(shape) }, (_, j) => of(hashValue(j, k, salt), j));
}

for (const { path, sidecar } of familiesOf<Sidecar>(
  'models',
  'models whose weights are a formula',
  (s) => s.weight_checks !== undefined,
)) {
  gpuFamily(
    path,
    (test) => {
      const golden = loadGolden(path);
      const { salt, sorted_names: sorted, grad: gradients } = sidecar;
      const config = disConfig(sidecar.model as DisName, disOptionsFromOfficial(sidecar.config));
      const index = new Map(sorted.map((parameter, k) => [parameter, k]));
      let model: Dis;

      test.before(({ device }) => {
        using generator = new Generator(device);
        model = scope(() => new Dis(generator, config)).eval();
        const state = new Map(
          disParameterShapes(config).map(([parameter, shape]) => [
            parameter,
            { shape, data: values(shape, index.get(parameter)!, salt, rule(parameter, shape, config.ssm.dState)) },
          ]),
        );
        for (const [parameter, check] of Object.entries(sidecar.weight_checks)) {
          const { data } = state.get(parameter)!;
          assert.equal(
            [...data.slice(0, check.first.length), data[data.length - 1]],
            [...check.first, check.last],
            parameter,
          );
        }
        model.loadStateDict(state);
      });

      test('result, loss and gradients', async ({ device, own }) => {
        const parameters = gradients ? [...model.namedParameters()] : [];
        const expected = truth(golden, 'out', 'y');
        const r = values(expected.shape, sidecar.r_tensor_index, salt, (v) => v);
        const run = (): (Tensor | null)[] =>
          scope(() => {
            const labels = sidecar.labels && tensor(device, Int32Array.from(sidecar.labels));
            const y = model.forward(read(device, golden, 'in.x'), tensor(device, Int32Array.from(sidecar.t)), labels);
            if (!gradients) return [y];
            const loss = y.mul(tensor(device, r, { shape: expected.shape })).mean();
            const all = parameters.map(([, p]) => p);
            return [y, loss, ...grad(loss, all)];
          });
        const [y, loss, ...found] = (gradients ? run() : noGrad(run)).map((t) => own(t!));
        const limit = limitOf(LIMIT, sidecar, 'y');
        assertClose(await y.data(), expected, limit, 'y');
        if (!gradients) return;
        assertMean(
          await loss.item(),
          numbers(truth(golden, 'out', 'loss'))[0],
          numbers(expected),
          r,
          limitOf(LIMIT, sidecar, 'loss'),
          'loss',
        );
        for (const [i, [parameter, { shape }]] of parameters.entries()) {
          const k = index.get(parameter)!;
          const g = await found[i].data();
          const { l2_f64: norm, dot_hash_f64: dot } = gradients[parameter];
          let squares = 0,
            product = 0;
          for (let j = 0; j < numelOf(shape); j++) {
            squares += g[j] ** 2;
            product += g[j] * hashValue(j, GRADIENT_HASH_INDEX + k, salt);
          }
          const error = Math.max(Math.abs(Math.sqrt(squares) - norm), Math.abs(product - dot)) / norm;
          assert.ok(
            error <= GRADIENT_LIMIT,
            `gradient of ${parameter}: norm ${Math.sqrt(squares)} instead of ${norm}, product ${product} instead of ${dot}`,
          );
        }
      });
    },
    [`${path}.safetensors`],
  );
}
