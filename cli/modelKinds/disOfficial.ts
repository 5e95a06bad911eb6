// What the official code's files tell of a DiS: their parts, and the flags that describe their model.

import { DIS_NAMES, disSize, SSM_DEFAULTS, type DisConfig } from '../../models/dis/config.ts';
import type { DisFlags } from './dis.ts';
import type { CommonModelFlags } from './kind.ts';

export { disConfigFromShapes } from '../../models/dis/configFromShapes.ts';
export { officialCheckpoint, type OfficialCheckpoint } from '../../models/dis/officialCheckpoint.ts';

/**
 * The flags that describe a model; those of its name are left out where they agree.
 * @param named the name that train.py was given
 */
export function officialFlags(model: DisConfig, named: string | undefined): DisFlags & CommonModelFlags {
  const { embedDim, depth, patchSize } = model;
  const same = (name: (typeof DIS_NAMES)[number]): boolean => {
    const size = disSize(name);
    return size.embedDim === embedDim && size.depth === depth && size.patchSize === patchSize;
  };
  const name =
    DIS_NAMES.find(same) ?? DIS_NAMES.find((known) => known === named) ?? (patchSize === 4 ? 'DiS-S/4' : 'DiS-S/2');
  return {
    model: name,
    ...(!same(name) && { embedDim, depth, patchSize }),
    ...(model.ssm.dState !== SSM_DEFAULTS.dState && { dState: model.ssm.dState }),
    imageSize: model.imgSize,
    dropPath: model.dropPathRate,
    labelDropout: model.classDropoutProb,
    learnSigma: model.learnSigma,
    skip: model.skip,
    mlpTimeEmbed: model.mlpTimeEmbed,
    norm: model.rmsNorm ? 'rms' : 'layer',
  };
}
