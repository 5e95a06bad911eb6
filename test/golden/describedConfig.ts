// The configuration that a sidecar describes in words: `DiS-S/2 latent 32x32x4, 1000 classes, …`.

import { disConfig, type DisConfig, type DisName } from '../../models/dis/config.ts';

/** @throws Error where the text names no model and no image */
export function configOf(description: string, options: { dropPathRate?: number } = {}): DisConfig {
  const image = /^(\S+) (?:\w+ )?(\d+)x\d+x(\d+)/.exec(description);
  if (!image)
    throw new Error(`"${description}" names no model and image, as in "DiS-S/2 latent 32x32x4, 1000 classes"`);
  const classes = /(\d+) classes/.exec(description)?.[1];
  return disConfig(image[1] as DisName, {
    imgSize: Number(image[2]),
    channels: Number(image[3]),
    ...(classes !== undefined && { numClasses: Number(classes) }),
    ...options,
  });
}
