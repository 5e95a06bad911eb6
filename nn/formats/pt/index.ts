// Files of torch.save, read.

export { openPt, ptTensors, type PtFile } from './openPt.ts';
export { PtTensor, type PtDtype, type PtStorage } from './tensor.ts';
export { PtObject, PtType, type PtValue } from './values.ts';
