// Written by `npm run bench:ship`.
// Measured on nvidia / nvidia-h200 / NVIDIA: 580.159.04 580.159.4.0 / stock, 2026-11-24, commit 10f18d34e.

import type { ShippedConfigs } from '../tuningShipped.ts';

export const configs: ShippedConfigs = [
  [null, [
    'gemm 2^10.5×2^8.5×2^11 f32t f32 f32',
    'gemm 2^10×2^10×2^10 f32 f32 f32',
    'gemm 2^11×2^4.5×2^9.5 f32 f32u f32u',
    'gemm 2^11×2^6×2^9.5 f32 f32t f32u',
    'gemm 2^11×2^8.5×2^10.5 f32 f32 f32',
    'gemm 2^11×2^8.5×2^9.5 f32 f32t f32',
    'gemm 2^5×2^6×2^9 f32t f32 f32',
    'gemm 2^6×2^9.5×2^11 f32tu f32 f32',
    'gemm 2^9.5×2^4.5×2^11 f32t f32u f32u',
    'gemm 2^9×2^5×2^6 f32 f32t f32',
    'gemm 2^9×2^8×2^6 f32 f32t f32',
    'gemm 2^9×2^9×2^9 f32 f32 f32',
  ]],
  [{"form":"register","rows":1,"quads":1,"x":64,"y":1,"depth":4,"splits":1}, [
    'gemm 2^6×2^8×8 f32t f32 f32',
    'gemm 2^7×2^6×8 f32t f32 f32',
    'gemm 2^8×2^6×8 f32t f32 f32',
    'gemm 2^9×2^6×2^5 f32 f32 f32',
    'gemm 2^9×2^7×2^5 f32 f32 f32',
  ]],
  [{"form":"register","rows":4,"quads":1,"x":8,"y":8,"depth":4,"splits":1}, [
    'gemm 2^9×2^7×4 f32 f32t f32',
  ]],
  [{"form":"tile","rows":4,"quads":1,"x":16,"y":16,"depth":16,"splits":1}, [
    'gemm 2^11×2^9.5×2^4.5 f32u f32tu f32',
    'gemm 2^11×2^9.5×2^6 f32u f32 f32',
    'gemm 2^11×2^9.5×2^8.5 f32 f32 f32',
  ]],
  [{"form":"tile","rows":4,"quads":1,"x":8,"y":8,"depth":16,"splits":1}, [
    'gemm 2^11×2^8.5×2^8.5 f32 f32 f32',
    'gemm 2^9×2^5×2^7 f32 f32t f32',
    'gemm 2^9×2^6×2^4 f32 f32t f32',
    'gemm 2^9×2^6×2^6 f32 f32 f32',
    'gemm 2^9×2^6×2^6 f32 f32t f32',
    'gemm 2^9×2^6×2^7 f32 f32t f32',
    'gemm 2^9×2^6×2^8 f32 f32 f32',
    'gemm 2^9×2^7×2^6 f32 f32 f32',
  ]],
  [{"form":"tile","rows":4,"quads":1,"x":8,"y":8,"depth":16,"splits":4}, [
    'gemm 2^5×2^7×2^9 f32t f32 f32',
    'gemm 2^6×2^6×2^9 f32t f32 f32',
    'gemm 2^6×2^7×2^9 f32t f32 f32',
    'gemm 2^8×2^6×2^9 f32t f32 f32',
  ]],
  [{"form":"tile","rows":8,"quads":2,"x":16,"y":16,"depth":16,"splits":16}, [
    'gemm 2^8.5×2^8.5×2^11 f32t f32 f32',
  ]],
  [{"form":"tile","rows":8,"quads":2,"x":8,"y":16,"depth":16,"splits":1}, [
    'gemm 2^11×2^10.5×2^8.5 f32 f32t f32',
    'gemm 2^11×2^8.5×2^8.5 f32 f32t f32',
  ]],
  [{"form":"tile","rows":8,"quads":2,"x":8,"y":16,"depth":16,"splits":7}, [
    'gemm 2^8.5×2^9.5×2^11 f32t f32 f32',
  ]],
  [{"form":"vector","rows":1,"quads":1,"x":16,"y":4,"depth":4,"splits":1}, [
    'gemm 8×2^7×2^6 f32 f32t f32',
    'gemm 8×2^8×2^6 f32 f32t f32',
  ]],
  [{"form":"vector","rows":1,"quads":1,"x":64,"y":1,"depth":4,"splits":1}, [
    'gemm 2^6×2^4×2^9 f32t f32 f32',
    'gemm 2^7×4×2^9 f32t f32 f32',
    'gemm 8×2^6×2^8 f32 f32t f32',
  ]],
  [{"form":"vector","rows":4,"quads":0.25,"x":16,"y":4,"depth":4,"splits":1}, [
    'gemm 2^9×4×2^7 f32 f32 f32',
    'gemm 8×2^6×2^7 f32 f32 f32',
    'gemm 8×2^8×2^6 f32 f32 f32',
  ]],
];
