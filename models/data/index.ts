// Images as data sets, batches and pictures: pure pixels, no files.

export { centerCropArr } from './centerCrop.ts';
export { CHANNELS, convertChannels, withChannels, type Channels } from './channels.ts';
export { CIFAR10_CLASSES, cifarDataset, type CifarFile, type CifarKind, type CifarOptions } from './cifar.ts';
export {
  DataLoader,
  epochOrder,
  type Batch,
  type DataCursor,
  type DataLoaderOptions,
  type Dataset,
  type DatasetItem,
} from './dataset.ts';
export {
  batchToPixels,
  makeGrid,
  normalizeRange,
  toPixels,
  type FloatImage,
  type GridOptions,
  type ImageBatch,
} from './grid.ts';
export { cropImage, flipHorizontal, normalizeToChw, padImage, type PixelImage, type Pixels } from './image.ts';
export { fitSquare, idxDataset, idxHeader, parseIdx, type IdxArray, type IdxHeader, type IdxOptions } from './idx.ts';
export { resize, resizeShorter, type ResizeFilter } from './resize.ts';
export {
  SHAPE_CLASSES,
  shapesDataset,
  shapesItem,
  type ShapeClass,
  type ShapesOptions,
  type ShapeStyle,
} from './shapes.ts';
export { holdOut, subset } from './subset.ts';
export { latentDataset, type LatentSource } from './latents.ts';
