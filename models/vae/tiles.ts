// Work on an image tile by tile. Tiles overlap, and where they do each counts less towards its edge, so that there is
// no seam; weights of all tiles add up to 1 everywhere.

import { scope, tensor, ValueError, type Tensor } from '../../core/index.ts';

/** How pictures are cut into tiles. */
export interface TileOptions {
  /** Edge of a tile in latents. Default 64. */
  readonly tile?: number;
  /** Latents that neighbours share, at least. Default a quarter of the tile. */
  readonly overlap?: number;
}

/** Where the tiles of an edge begin, evenly. */
export function tileStarts(length: number, tile: number, overlap: number): number[] {
  if (length <= tile) return [0];
  const count = Math.ceil((length - overlap) / (tile - overlap));
  return Array.from({ length: count }, (_, i) => Math.round((i * (length - tile)) / (count - 1)));
}

/** The share of each tile at each place of an edge: it falls to its ends, but not at the image's own. */
export function tileShares(length: number, tile: number, starts: readonly number[]): Float32Array[] {
  const size = Math.min(tile, length);
  // The overlap with a neighbour; 0 without one, which makes the slope infinite.
  const slopes = starts.map((start, i) =>
    Float32Array.from({ length: size }, (_, x) => {
      const before = i === 0 ? 0 : starts[i - 1] + size - start;
      const after = i === starts.length - 1 ? 0 : start + size - starts[i + 1];
      return Math.min(1, (x + 0.5) / before, (size - x - 0.5) / after);
    }),
  );
  const total = new Float32Array(length);
  slopes.forEach((slope, i) => slope.forEach((share, x) => (total[starts[i] + x] += share)));
  return slopes.map((slope, i) => slope.map((share, x) => share / total[starts[i] + x]));
}

/**
 * `work` over overlapping tiles of (N, C, H, W), joined.
 *
 * @param scale pixels of `x` and of the result for one latent
 * @throws ValueError
 */
export function inTiles(
  x: Tensor,
  work: (part: Tensor) => Tensor,
  scale: { readonly from: number; readonly to: number },
  { tile = 64, overlap = Math.floor(tile / 4) }: TileOptions,
): Tensor {
  for (const [option, value, least, most] of [
    ['tile', tile, 2, 4096],
    ['overlap', overlap, 0, tile - 1],
  ] as const)
    if (!(Number.isInteger(value) && value >= least && value <= most))
      throw new ValueError('inTiles', `is ${value}`, { option, expected: `a whole number from ${least} to ${most}` });
  const [height, width] = x.shape.slice(2).map((n) => Math.ceil(n / scale.from));
  const rows = tileStarts(height, tile, overlap);
  const columns = tileStarts(width, tile, overlap);
  if (rows.length === 1 && columns.length === 1) return work(x);
  const shares = (length: number, starts: readonly number[]): Float32Array[] =>
    tileShares(length * scale.to, tile * scale.to, starts.map((n) => n * scale.to)); // prettier-ignore
  const [down, across] = [shares(height, rows), shares(width, columns)];
  return scope(() => {
    let sum: Tensor | null = null;
    rows.forEach((top, i) =>
      columns.forEach((left, j) => {
        const next: Tensor = scope(() => {
          const part = work(
            x
              .slice(2, top * scale.from, Math.min(height, top + tile) * scale.from)
              .slice(3, left * scale.from, Math.min(width, left + tile) * scale.from)
              .contiguous(),
          );
          const weighted = part
            .mul(tensor(x.device, down[i], { shape: [down[i].length, 1] }))
            .mul(tensor(x.device, across[j]));
          const placed = weighted.pad([
            [0, 0],
            [0, 0],
            [top * scale.to, height * scale.to - top * scale.to - down[i].length],
            [left * scale.to, width * scale.to - left * scale.to - across[j].length],
          ]);
          return sum ? sum.add(placed) : placed;
        });
        sum?.dispose();
        sum = next;
      }),
    );
    return sum!;
  });
}
