// Statistics and distances of sets of pictures, free of files: Fréchet distance, KID, precision and recall, Inception
// score, and the networks whose features they compare.

export { frechetDistance } from './frechet.ts';
export { featureStatistics, StatisticsGatherer, type FeatureStatistics } from './statistics.ts';
export { kernelDistance, kidSubset, kidSubsetSize, type KernelDistance, type KidOptions } from './kid.ts';
export { precisionRecall, type PrecisionRecall, type PrecisionRecallOptions } from './precisionRecall.ts';
export { inceptionScore, type ClassProbabilities, type InceptionScore } from './inceptionScore.ts';
export type { FeatureSet } from './features.ts';
