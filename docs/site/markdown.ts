// What the site and the tests of the documents read of Markdown: fenced blocks, code in prose, headings and links.

import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder. */
export const PROJECT = fileURLToPath(new URL('../..', import.meta.url));

export interface Block {
  /** File and line of its first line, for messages. */
  readonly at: string;
  readonly line: number;
  readonly language: string;
  /** What follows the language: ` ```sh run ` has `run`. */
  readonly marks: readonly string[];
  readonly code: string;
}

export interface Page {
  /** Relative to the project, with `/`. */
  readonly file: string;
  readonly blocks: readonly Block[];
  /** What is between blocks, line by line; lines of blocks are empty. */
  readonly prose: readonly string[];
}

/** What `npm run docs` writes into docs/; git ignores it. */
export const GENERATED = ['docs/api', 'docs/commands', 'docs/source'];

/** All Markdown files of the project that somebody wrote. */
export function pages(): Page[] {
  return markdownFiles(PROJECT).map((path) => read(path));
}

function markdownFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.startsWith('.') || ['node_modules', 'dist', 'runs'].includes(entry.name)) return [];
    const path = join(folder, entry.name);
    if (GENERATED.includes(relativeToProject(path))) return [];
    if (entry.isDirectory()) return markdownFiles(path);
    return entry.name.endsWith('.md') ? [path] : [];
  });
}

function relativeToProject(path: string): string {
  return relative(PROJECT, path).split(sep).join('/');
}

function read(path: string): Page {
  const file = relativeToProject(path);
  const blocks: Block[] = [];
  const prose: string[] = [];
  let open: { line: number; language: string; marks: string[]; code: string[] } | null = null;
  for (const [i, line] of readFileSync(path, 'utf8').split(/\r?\n/).entries()) {
    const fence = /^```(.*)$/.exec(line);
    prose.push(open || fence ? '' : line);
    if (fence && open) {
      blocks.push({ ...open, at: `${file}:${open.line}`, code: open.code.join('\n') });
      open = null;
    } else if (fence) {
      const [language = '', ...marks] = fence[1].trim().split(/\s+/);
      open = { line: i + 2, language, marks, code: [] };
    } else open?.code.push(line);
  }
  if (open) throw new Error(`${file}:${open.line - 1}: the block has no end.`);
  return { file, blocks, prose };
}

/** Code in prose: `this`. */
export function codeSpans({ prose }: Page): { line: number; code: string }[] {
  return prose.flatMap((text, i) => [...text.matchAll(/`([^`]+)`/g)].map(([, code]) => ({ line: i + 1, code })));
}

/** Where links and pictures lead, with their lines. */
export function links({ prose }: Page): { line: number; target: string }[] {
  return prose.flatMap((text, i) =>
    [...text.replace(/`[^`]*`/g, 'code').matchAll(/\]\(\s*<?([^)\s>]+)>?[^)]*\)/g)].map(([, target]) => ({
      line: i + 1,
      target,
    })),
  );
}

/** The anchors that GitHub gives to headings. */
export function anchors({ prose }: Page): Set<string> {
  const found = new Map<string, number>();
  for (const line of prose) {
    const heading = /^#{1,6}\s+(.*?)\s*#*$/.exec(line)?.[1];
    if (heading === undefined) continue;
    const slug = slugOf(heading.replace(/!?\[([^\]]*)\]\([^)]*\)/g, '$1'));
    const before = found.get(slug);
    found.set(slug, (before ?? -1) + 1);
    if (before !== undefined) found.set(`${slug}-${before + 1}`, 0);
  }
  return new Set(found.keys());
}

/** The anchor of a heading's text, as GitHub makes it. */
export function slugOf(heading: string): string {
  return heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '')
    .replace(/ /g, '-');
}

/** The text of a page's first heading. */
export function titleOf({ prose, file }: Page): string {
  const title = prose.map((line) => /^#\s+(.*?)\s*#*$/.exec(line)?.[1]).find((text) => text !== undefined);
  return title ?? file;
}
