// Where a file of the project stands on the site. Documents link to each other and to source files by relative paths, which work on
// GitHub and in an editor; the site finds out here what they become.

import { existsSync, statSync } from 'node:fs';
import { join, posix } from 'node:path';
import { PROJECT } from './markdown.ts';

/** Pages that stand outside of docs/, and where they are on the site. */
const OUTSIDE: ReadonlyMap<string, string> = new Map([
  ['README.md', 'readme.md'],
  ['ARCHITECTURE.md', 'architecture.md'],
  ['FEATURES.md', 'features.md'],
  ['bench/README.md', 'bench.md'],
]);

/** `docs/kernels/README.md` → `kernels/index.md`: the path that VitePress is told. */
export function pathOnSite(file: string): string {
  return OUTSIDE.get(file) ?? file.replace(/^docs\//, '').replace(/(^|\/)README\.md$/, '$1index.md');
}

/** `docs/kernels/README.md` → `/kernels/`. */
export function addressOf(file: string): string {
  return `/${pathOnSite(file)
    .replace(/(^|\/)index\.md$/, '$1')
    .replace(/\.md$/, '')}`;
}

/** Whether a file is a page of the site by itself. */
export function isPage(file: string): boolean {
  return OUTSIDE.has(file) || (file.startsWith('docs/') && file.endsWith('.md'));
}

/** The page that shows a source file or folder: `core/kit.ts` → `docs/source/core/kit.ts.md`. */
export function sourcePage(path: string): string {
  return `docs/source/${path}.md`;
}

/** A link of a page, as the site has it: `../core/kit.ts` → `/source/core/kit.ts`. Pictures and what leads outside stay as they are. */
export function resolveLink(file: string, target: string): string {
  if (/^([a-z][a-z+.-]*:|\/|#)/i.test(target)) return target;
  const [path, anchor] = target.split('#');
  const to = posix.normalize(posix.join(posix.dirname(file), decodeURIComponent(path))).replace(/\/$/, '');
  const fragment = anchor === undefined ? '' : `#${anchor}`;
  if (isPage(to)) return `${addressOf(to)}${fragment}`;
  const inFolder = `${to}/README.md`;
  if (isPage(inFolder) && existsSync(join(PROJECT, inFolder))) return `${addressOf(inFolder)}${fragment}`;
  return /\.(png|svg|jpg|webp|gif)$/.test(to) ? target : addressOf(sourcePage(to));
}

export const isFolder = (path: string): boolean =>
  statSync(join(PROJECT, path), { throwIfNoEntry: false })?.isDirectory() ?? false;
