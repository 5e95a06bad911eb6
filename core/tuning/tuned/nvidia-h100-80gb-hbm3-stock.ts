// Written by `npm run bench:ship`.
// Measured on nvidia / nvidia-h100-80gb-hbm3 / stock, 2026-11-26, commit 9aad0e672.

import type { ShippedConfigs } from '../shippedTable.ts';

export const configs: ShippedConfigs = [
  [null, [
    'gemm 2^10.5×2^8.5×2^14 f32t f32 f32',
    'gemm 2^10.5×2^8.5×2^6 f32t f32 f32',
    'gemm 2^12×2^12×2^12 f32 f32 f32',
    'gemm 2^14×2^10.5×2^5.5 f32 f32t f32',
    'gemm 2^14×2^10.5×2^8.5 f32 f32t f32',
    'gemm 2^14×2^11.5×2^9.5 f32 f32t f32',
    'gemm 2^14×2^4.5×2^9.5 f32 f32u f32u',
    'gemm 2^14×2^5×2^8.5 f32 f32t f32',
    'gemm 2^14×2^8.5×2^5 f32 f32 f32',
    'gemm 2^14×2^9.5×2^8.5 f32 f32 f32',
    'gemm 2^4×2^7×2^6 f32 f32t f32',
    'gemm 2^5×2^8.5×2^14 f32t f32 f32',
    'gemm 2^6×2^9.5×2^11.5 f32 f32t f32',
    'gemm 2^6×2^9.5×2^14 f32tu f32 f32',
    'gemm 2^8.5×2^10.5×2^6 f32t f32 f32',
    'gemm 2^8.5×2^4×2^14 f32t f32 f32',
    'gemm 2^8.5×2^8.5×2^14 f32t f32 f32',
    'gemm 2^8.5×2^9.5×2^14 f32t f32 f32',
    'gemm 2^8×2^5.5×2^6 f32 f32t f32',
    'gemm 2^8×2^6×2^4 f32t f32 f32',
    'gemm 2^8×2^6×2^5.5 f32 f32 f32',
    'gemm 2^8×2^6×2^6 f32 f32 f32',
    'gemm 2^8×2^6×2^6 f32 f32t f32',
    'gemm 2^8×2^6×2^7 f32 f32t f32',
    'gemm 2^8×2^7×2^6 f32 f32 f32',
    'gemm 2^8×2^8×2^6 f32 f32t f32',
    'gemm 2^8×4×2^7 f32 f32 f32',
    'gemm 2^9.5×2^4.5×2^14 f32t f32u f32u',
    'scan backward 2^4×2^4×2^7×16 both f32',
    'scan forward 2^4×2^4×2^7×16 both f32 saving 16',
    'scan forward 2^6×2^8×2^9.5×16 both f32',
    'scan forward 2^6×2^8×2^9.5×16 both f32 saving 16',
    'scan forward 2^6×2^8×2^9.5×16 both f32 saving 8',
    'scan forward 2^6×2^8×2^9.5×16 f32',
    'scan forward 2^6×2^8×2^9.5×16 f32 saving 16',
  ]],
  [{"saveInterval":8,"layout":{"stretch":2,"fetch":"staged","width":32,"split":4,"merged":false,"subgroups":true,"history":"private","teams":4,"chunks":1}}, [
    'scan backward 2^6×2^8×2^9.5×16 f32',
  ]],
  [{"saveInterval":8,"layout":{"stretch":4,"fetch":"staged","width":32,"split":4,"merged":false,"subgroups":true,"history":"private","teams":4,"chunks":1}}, [
    'scan backward 2^6×2^8×2^9.5×16 both f32',
  ]],
  [{"form":"register","rows":1,"quads":1,"x":64,"y":1,"depth":4,"splits":1}, [
    'gemm 2^7×2^6×2^4 f32t f32 f32',
    'gemm 2^8×2^6×2^5.5 f32 f32t f32',
    'gemm 2^8×2^7×2^5 f32 f32 f32',
    'gemm 2^8×2^7×4 f32 f32t f32',
  ]],
  [{"form":"tile","rows":16,"quads":2,"x":16,"y":8,"depth":16,"splits":1}, [
    'gemm 2^14×2^6.5×2^10.5 f32 f32t f32',
  ]],
  [{"form":"tile","rows":4,"quads":1,"x":16,"y":16,"depth":16,"splits":1}, [
    'gemm 2^14×2^9.5×2^4.5 f32u f32tu f32',
    'gemm 2^9.5×2^8.5×2^6 f32t f32 f32',
  ]],
  [{"form":"tile","rows":4,"quads":1,"x":8,"y":16,"depth":32,"splits":1}, [
    'gemm 2^5.5×2^6×2^8 f32t f32 f32',
    'gemm 2^5×2^7×2^8 f32t f32 f32',
    'gemm 2^6×2^10.5×2^8.5 f32 f32 f32',
    'gemm 2^6×2^10.5×2^8.5 f32 f32t f32',
    'gemm 2^6×2^5.5×2^8 f32t f32 f32',
    'gemm 2^6×2^6×2^8 f32t f32 f32',
    'gemm 2^6×2^7×2^8 f32t f32 f32',
    'gemm 2^6×2^8.5×2^9.5 f32 f32 f32',
    'gemm 2^6×2^9.5×2^8.5 f32 f32t f32',
    'gemm 2^7×4×2^8 f32t f32 f32',
    'gemm 2^8×2^5×2^7 f32 f32t f32',
    'gemm 2^8×2^6×2^8 f32 f32 f32',
    'gemm 2^8×2^6×2^8 f32t f32 f32',
  ]],
  [{"form":"tile","rows":4,"quads":1,"x":8,"y":8,"depth":16,"splits":1}, [
    'gemm 2^6×2^11.5×2^9.5 f32 f32t f32',
    'gemm 2^6×2^8.5×2^10.5 f32 f32t f32',
    'gemm 2^6×2^8×2^4 f32t f32 f32',
  ]],
  [{"form":"tile","rows":8,"quads":2,"x":16,"y":16,"depth":16,"splits":1}, [
    'gemm 2^14×2^9.5×2^6 f32u f32 f32',
  ]],
  [{"form":"tile","rows":8,"quads":2,"x":8,"y":16,"depth":16,"splits":1}, [
    'gemm 2^14×2^8.5×2^10.5 f32 f32 f32',
    'gemm 2^14×2^8.5×2^4 f32 f32t f32',
    'gemm 2^14×2^8.5×2^8.5 f32 f32 f32',
    'gemm 2^14×2^8.5×2^8.5 f32 f32t f32',
    'gemm 2^14×2^8.5×2^9.5 f32 f32t f32',
    'gemm 2^14×2^9.5×2^4 f32 f32t f32',
  ]],
  [{"form":"tile","rows":8,"quads":2,"x":8,"y":8,"depth":16,"splits":1}, [
    'gemm 2^14×2^6×2^9.5 f32 f32t f32u',
  ]],
  [{"form":"vector","rows":1,"quads":1,"x":16,"y":4,"depth":4,"splits":1}, [
    'gemm 2^4×2^6×2^7 f32 f32 f32',
    'gemm 2^4×2^8×2^6 f32 f32t f32',
  ]],
  [{"form":"vector","rows":4,"quads":0.25,"x":16,"y":4,"depth":4,"splits":1}, [
    'gemm 2^4×2^6×2^8 f32 f32t f32',
  ]],
  [{"form":"vector","rows":4,"quads":1,"x":16,"y":4,"depth":4,"splits":1}, [
    'gemm 2^4×2^8×2^6 f32 f32 f32',
  ]],
];
