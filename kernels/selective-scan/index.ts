export {
  selectiveScan,
  selectiveScanBidirectional,
  type BidirectionalScanOptions,
  type ScanParameters,
  type SelectiveScanOptions,
} from './op.ts';
export type { Direction } from './wgsl.ts';
