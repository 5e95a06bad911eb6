// The order of the site's pages. Kernel pages, commands and the API are listed from their folders; every other page has its line here, and
// test/docs/navigation.test.ts finds the page that has none and the line that has no page.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pages, PROJECT, titleOf } from './markdown.ts';
import { addressOf } from './addresses.ts';

export interface Section {
  readonly text: string;
  /** Files, relative to the project; one that ends in `/` stands for the pages of a folder. */
  readonly files: readonly string[];
}

export const SECTIONS: readonly Section[] = [
  {
    text: 'Start',
    files: [
      'docs/getting-started.md',
      'docs/browser.md',
      'docs/package.md',
      'docs/pytorch.md',
      'docs/troubleshooting.md',
    ],
  },
  { text: 'The engine', files: ['docs/memory.md', 'docs/operations.md'] },
  {
    text: 'Training and sampling',
    files: [
      'docs/commands.md',
      'docs/commands/',
      'docs/data.md',
      'docs/latents.md',
      'docs/presets.md',
      'docs/checkpoints.md',
      'docs/evaluation.md',
      'docs/scaling.md',
      'docs/reliability.md',
    ],
  },
  { text: 'Kernels', files: ['docs/kernels/README.md', 'docs/kernels/'] },
  {
    text: 'The project',
    files: ['docs/benchmarks.md', 'bench/README.md', 'FEATURES.md', 'docs/security.md', 'ARCHITECTURE.md', 'README.md'],
  },
];

/** Shorter than a page's own title, for the side bar. */
const SHORT: Readonly<Record<string, string>> = {
  'README.md': 'At a glance',
  'docs/kernels/README.md': 'How the kernels work',
};

export interface SidebarItem {
  text: string;
  link?: string;
  collapsed?: boolean;
  items?: SidebarItem[];
}

/** The pages of a folder, without those that a section names itself. */
export function folderPages(folder: string): string[] {
  const path = join(PROJECT, folder);
  if (!existsSync(path)) return [];
  const named = new Set(SECTIONS.flatMap(({ files }) => files));
  return readdirSync(path)
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}${name}`)
    .filter((file) => !named.has(file))
    .sort();
}

/** All pages of a section, in order; what isn't there is left out. */
export function sectionPages({ files }: Section): string[] {
  return files
    .flatMap((file) => (file.endsWith('/') ? folderPages(file) : [file]))
    .filter((file) => existsSync(join(PROJECT, file)));
}

export function guideSidebar(): SidebarItem[] {
  const titles = new Map(pages().map((page) => [page.file, titleOf(page)]));
  const item = (file: string): SidebarItem => ({
    text: SHORT[file] ?? titles.get(file) ?? nameOf(file),
    link: addressOf(file),
  });
  return SECTIONS.map((section) => ({ text: section.text, items: sectionPages(section).map(item) }));
}

const KINDS: readonly (readonly [folder: string, text: string])[] = [
  ['classes', 'Classes'],
  ['functions', 'Functions'],
  ['variables', 'Values'],
  ['interfaces', 'Interfaces'],
  ['type-aliases', 'Types'],
];

const MODULES = ['core', 'core/kit', 'kernels', 'nn', 'nn/namespaces/init', 'models'];

/** Side bars of the API by address: each entry point has one that lists what it exports, by kind, beside the other entry points. */
export function apiSidebars(): Record<string, SidebarItem[]> {
  const modules = ['', ...MODULES].filter((name) => existsSync(join(PROJECT, 'docs/api', name)));
  const sidebar = (open: string): SidebarItem[] => [
    { text: 'API reference', link: '/api/' },
    ...modules.slice(1).map((name) => ({
      text: `dis-webgpu/${name.replace('/namespaces/', ', ')}`,
      link: `/api/${name}/`,
      ...(name === open && { items: kinds(name) }),
    })),
  ];
  // VitePress takes the longest address that fits.
  return Object.fromEntries(modules.map((name) => [`/api/${name}${name && '/'}`, sidebar(name)]));
}

function kinds(module: string): SidebarItem[] {
  return KINDS.map(([folder, text]) => ({
    text,
    collapsed: false,
    items: folderPages(`docs/api/${module}/${folder}/`).map((file) => ({ text: nameOf(file), link: addressOf(file) })),
  })).filter(({ items }) => items.length > 0);
}

/** `docs/commands/train.md` → `dis-cli train`. */
function nameOf(file: string): string {
  const name = file.replace(/^.*\/|\.md$/g, '');
  return file.startsWith('docs/commands/') ? `dis-cli ${name}` : name;
}
