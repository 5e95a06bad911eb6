import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { betaSchedule } from '../../../models/diffusion/schedule.ts';
import { diffusionSettings, settingsOfBetas } from '../../../models/diffusion/settings.ts';
import type { DiffusionOptions } from '../../../models/diffusion/settings.ts';
import { assertClose } from '../../golden/support.ts';
import { pMeanVariance } from '../../reference/diffusion.ts';

test('settings of the official options', () => {
  const of = (options: DiffusionOptions): string[] => {
    const { modelMeanType, modelVarType, lossType } = diffusionSettings(options);
    return [modelMeanType, modelVarType, lossType];
  };
  assert.equal(of({}), ['epsilon', 'learnedRange', 'mse']);
  assert.equal(of({ useKl: true, rescaleLearnedSigmas: true }), ['epsilon', 'learnedRange', 'rescaledKl']);
  assert.equal(of({ learnSigma: false, rescaleLearnedSigmas: true, predictXstart: true }), [
    'xStart',
    'fixedLarge',
    'rescaledMse',
  ]);
  assert.equal(of({ learnSigma: false, sigmaSmall: true }), ['epsilon', 'fixedSmall', 'mse']);
  const short = diffusionSettings({ timestepRespacing: 'ddim10', diffusionSteps: 100 });
  assert.equal(
    [short.numTimesteps, short.originalTimesteps, [...short.timestepMap]],
    [10, 100, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]],
  );
  assert.throws(
    () =>
      settingsOfBetas(betaSchedule('linear', 100), {
        modelMeanType: 'x' as never,
        modelVarType: 'learned',
        lossType: 'kl',
      }),
    /modelMeanType is x, expected one of epsilon/,
  );
});

test('previous-x prediction is the same process as epsilon, told otherwise', () => {
  const betas = betaSchedule('linear', 100);
  const types = { modelVarType: 'fixedSmall', lossType: 'mse' } as const;
  const epsilon = settingsOfBetas(betas, { modelMeanType: 'epsilon', ...types });
  const previous = settingsOfBetas(betas, { modelMeanType: 'previousX', ...types });
  const x = [0.5, -1.5, 2];
  const t = [3, 50, 99];
  const first = pMeanVariance(epsilon, { x, t, modelOutput: [0.3, -0.2, 1] }, false);
  const second = pMeanVariance(previous, { x, t, modelOutput: first.mean }, false);
  assertClose(second.mean, first.mean, 1e-12, 'mean');
  assertClose(second.predXstart, first.predXstart, 1e-9, 'x_0');
});

test.run();
