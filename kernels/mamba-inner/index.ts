export { mambaInner, type MambaDirection, type MambaInnerOptions } from './mambaInner.ts';
