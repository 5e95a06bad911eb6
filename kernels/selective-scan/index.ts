export {
  selectiveScan,
  selectiveScanBidirectional,
  type BidirectionalScanOptions,
  type ScanParameters,
  type SelectiveScanOptions,
} from './op.ts';
