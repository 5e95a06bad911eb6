// Written by `npm run bench:ship`.

import type { ShippedTable } from '../tuningShipped.ts';

export const TABLES: readonly ShippedTable[] = [
  { vendor: 'nvidia', architecture: '', device: 'nvidia-h200', tier: 'fast', load: () => import('./nvidia-h200-fast.ts') },
  { vendor: 'nvidia', architecture: '', device: 'nvidia-h200', tier: 'stock', load: () => import('./nvidia-h200-stock.ts') },
];
