// Statistics and distances of sets of pictures, free of files: Fréchet distance, KID, precision and recall, Inception
// score, and the networks whose features they compare.

export { frechetDistance } from './frechet.ts';
export { featureStatistics, StatisticsGatherer, type FeatureStatistics } from './statistics.ts';
export { kernelDistance, kidSubset, kidSubsetSize, type KernelDistance, type KidOptions } from './kid.ts';
export { precisionRecall, type PrecisionRecall, type PrecisionRecallOptions } from './precisionRecall.ts';
export { inceptionScore, type ClassProbabilities, type InceptionScore } from './inceptionScore.ts';
export type { FeatureSet } from './features.ts';
export type { FeatureNetwork, Judgement } from './networks/network.ts';
export { FidInception, FID_INCEPTION_SHA256_PREFIX, fidInceptionShapes, fidResize } from './networks/fidInception.ts';
export { NsfwjsInception, nsfwjsShapes, type KerasTensor } from './networks/nsfwjsInception.ts';
export { ClassifierNetwork } from './networks/classifierNetwork.ts';
export { judgePictures, PictureJudge, type JudgedPictures, type JudgeOptions } from './judgePictures.ts';
