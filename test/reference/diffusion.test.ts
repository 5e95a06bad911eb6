// The float64 reference of the diffusion process agrees with the official code's float64 runs, which read float32 inputs.

import * as assert from 'uvu/assert';
import { diffusionSettings } from '../../models/diffusion/settings.ts';
import type { DiffusionOptions } from '../../models/diffusion/settings.ts';
import { assertClose, cases, family, loadGolden, loadSidecar, need, numbers } from '../golden/support.ts';
import { trainingLosses } from './diffusion.ts';

const camelCase = (name: string): string => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

family(
  'diffusion/training_losses',
  (test) => {
    const golden = loadGolden('diffusion/training_losses');
    const { training_losses } = loadSidecar<{
      training_losses: { variants: Record<string, { create_diffusion: Record<string, unknown> }> };
    }>('diffusion/diffusion');
    const xStart = numbers(need(golden, 'in.x_start'));
    const noise = numbers(need(golden, 'in.noise'));
    for (const [name, tensors] of cases(golden)) {
      if (name === '') continue;
      test(name, () => {
        const options = Object.fromEntries(
          Object.entries(training_losses.variants[name].create_diffusion).map(([key, value]) => [
            camelCase(key),
            value,
          ]),
        );
        const settings = diffusionSettings(options as DiffusionOptions);
        const t = numbers(tensors.get('in.t') ?? need(golden, 'in.t'));
        const output = Float64Array.from(numbers(need(tensors, 'out.model_output')));
        const terms = trainingLosses(settings, xStart, noise, t, output);
        for (const term of ['loss', 'mse', 'vb'] as const) {
          const expected = tensors.get(`out64.${term}`);
          assert.is(expected === undefined, terms[term] === undefined, term);
          // The model output is stored in float32, and the bound divides by small variances.
          if (expected) assertClose(terms[term]!, expected, 2e-6, `${name} ${term}`);
        }
        const expected = numbers(need(tensors, 'grad64.model_output'));
        const mean = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
        const peak = Math.max(...expected.map(Math.abs));
        for (let i = 0; i < output.length; i += 101) {
          const at = (shift: number): number =>
            mean(
              trainingLosses(
                settings,
                xStart,
                noise,
                t,
                output.map((value, j) => (j === i ? value + shift : value)),
                output,
              ).loss,
            );
          const numeric = (at(1e-4) - at(-1e-4)) / 2e-4;
          assert.ok(
            Math.abs(numeric - expected[i]) < 1e-4 * peak,
            `${name} gradient ${i}: ${numeric}, reference ${expected[i]}`,
          );
        }
      });
    }
  },
  ['diffusion/training_losses.safetensors', 'diffusion/diffusion.json'],
);
