// Written by `npm run bench:ship`.

import type { ShippedTable } from '../shippedTable.ts';

export const TABLES: readonly ShippedTable[] = [
  { vendor: 'nvidia', architecture: '', device: 'nvidia-h100-80gb-hbm3', tier: 'fast', load: () => import('./nvidia-h100-80gb-hbm3-fast.ts') },
  { vendor: 'nvidia', architecture: '', device: 'nvidia-h100-80gb-hbm3', tier: 'stock', load: () => import('./nvidia-h100-80gb-hbm3-stock.ts') },
];
