// What the package exports, and the sources behind it.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT } from './markdown.ts';

/** From entry points to the sources, relative to the project: `dis-webgpu/core` → core/index.ts. */
export function entryPoints(): Map<string, string> {
  const { name, exports } = JSON.parse(readFileSync(join(PROJECT, 'package.json'), 'utf8')) as {
    name: string;
    exports: Record<string, unknown>;
  };
  const found = Object.entries(exports).flatMap(([path, target]) => {
    const source = leaf(target)
      ?.replace(/^\.\/(dist\/)?/, '')
      .replace(/\.js$/, '.ts');
    return source?.endsWith('.ts') && existsSync(join(PROJECT, source))
      ? [[join(name, path).replaceAll('\\', '/'), source] as const]
      : [];
  });
  return new Map(found);
}

/** The file that an export leads to by default, whatever conditions stand around it. */
function leaf(target: unknown): string | undefined {
  if (typeof target === 'string') return target;
  return target === null || typeof target !== 'object' ? undefined : leaf((target as { default?: unknown }).default);
}
