// A page for each source file or folder that a document links to, so that no link leads out of the site.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { isFolder, isPage, sourcePage } from './addresses.ts';
import { links, pages, PROJECT } from './markdown.ts';

const LANGUAGES: Readonly<Record<string, string>> = {
  '.ts': 'ts',
  '.mjs': 'js',
  '.json': 'json',
  '.sh': 'sh',
  '.wgsl': 'wgsl',
  '.html': 'html',
  '.css': 'css',
};
/** Longer files would make a page that no browser likes. */
const LONGEST = 200_000;

export function writeSourcePages(): void {
  const done = new Set<string>();
  const queue = pages().flatMap((page) =>
    links(page)
      .map(({ target }) => target.split('#')[0])
      .filter((path) => path !== '' && !/^[a-z][a-z+.-]*:/i.test(path) && !/\.(png|svg|jpg|webp|gif)$/.test(path))
      .map((path) => posix.normalize(posix.join(posix.dirname(page.file), decodeURIComponent(path))).replace(/\/$/, ''))
      .filter((path) => !isPage(path) && !isPage(`${path}/README.md`)),
  );
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (done.has(path)) continue;
    done.add(path);
    const to = join(PROJECT, sourcePage(path));
    mkdirSync(dirname(to), { recursive: true });
    if (isFolder(path)) {
      const inside = readdirSync(join(PROJECT, path), { withFileTypes: true })
        .filter((entry) => entry.isFile() && posix.extname(entry.name) in LANGUAGES)
        .map(({ name }) => `${path}/${name}`);
      writeFileSync(to, folderPage(path, inside));
      queue.push(...inside);
    } else writeFileSync(to, filePage(path));
  }
}

function folderPage(path: string, files: readonly string[]): string {
  const list = files.map((file) => `- [${posix.basename(file)}](./${posix.basename(path)}/${posix.basename(file)}.md)`);
  return page(path, list.join('\n'));
}

function filePage(path: string): string {
  const text = readFileSync(join(PROJECT, path), 'utf8').slice(0, LONGEST);
  const fence = '`'.repeat(Math.max(3, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length + 1)));
  return page(path, `${fence}${LANGUAGES[posix.extname(path)] ?? 'txt'}\n${text.trimEnd()}\n${fence}`);
}

function page(path: string, content: string): string {
  return `---\noutline: false\nsearch: false\n---\n\n# ${path}\n\n${content}\n`;
}
