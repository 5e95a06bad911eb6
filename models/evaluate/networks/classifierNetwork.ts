// A classifier that was trained on the data set itself, as a network of features.

import { interpolate, noGrad, scope, type Tensor } from '../../../core/index.ts';
import type { Classifier } from '../../classifier.ts';
import type { FeatureNetwork, Judgement } from './network.ts';

/** The features are the means over positions of the classifier's last feature maps. It owns the classifier. */
export class ClassifierNetwork implements FeatureNetwork {
  readonly distanceName = 'FD(classifier)';
  readonly identity: string;
  readonly features: number;
  readonly classes: number;
  readonly batch = 256;
  /** The classifier behind it. */
  readonly classifier: Classifier;

  /** @param identity tells these weights from others: a hash of them, or of what they were trained on */
  constructor(classifier: Classifier, { identity }: { identity: string }) {
    this.classifier = classifier;
    this.identity = identity;
    this.features = classifier.depth;
    this.classes = classifier.head.weight.shape[0];
  }

  /** Images of another size are interpolated. */
  judge(images: Tensor): Judgement {
    const [, height, width] = this.classifier.imageShape;
    return noGrad(() =>
      scope(() => {
        const fits = images.shape[2] === height && images.shape[3] === width;
        return this.classifier.judge(fits ? images : interpolate(images, { size: [height, width], mode: 'bilinear' }));
      }),
    );
  }

  /** Frees its weights. */
  dispose(): void {
    this.classifier.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
