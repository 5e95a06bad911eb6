// WebGPU's flag numbers. In browsers they are global constants; under Node they are not, so they stand here.

/** GPUBufferUsage */
export const USAGE = {
  MAP_READ: 0x1,
  MAP_WRITE: 0x2,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
  QUERY_RESOLVE: 0x200,
} as const;

/** GPUMapMode */
export const MAP_MODE = { READ: 1, WRITE: 2 } as const;

/** GPUShaderStage */
export const STAGE = { COMPUTE: 4 } as const;
