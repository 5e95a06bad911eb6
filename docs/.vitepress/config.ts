// The site: pages are the Markdown files of docs/ and three of the project's folder, at addresses of their own.

import { relative, sep } from 'node:path';
import { defineConfig } from 'vitepress';
import { pathOnSite, resolveLink } from '../site/addresses.ts';
import { PROJECT, slugOf } from '../site/markdown.ts';
import { apiSidebars, guideSidebar } from '../site/navigation.ts';

export default defineConfig({
  title: 'dis-webgpu',
  description: 'A tensor and autograd engine on WebGPU with state-space kernels, and DiS diffusion models on top',
  srcDir: '..',
  srcExclude: ['{cli,core,dist,examples,kernels,models,nn,runs,test}/**', 'bench/*/**'],
  rewrites: pathOnSite,
  cleanUrls: true,
  markdown: {
    anchor: { slugify: slugOf },
    languageAlias: { text: 'txt' },
    config(md) {
      md.core.ruler.push('links of the project', (state) => {
        const { realPath, path } = state.env as { realPath?: string; path?: string };
        const origin = realPath ?? path;
        if (origin === undefined) return;
        const file = relative(PROJECT, origin).split(sep).join('/');
        for (const { children } of state.tokens)
          for (const token of children ?? []) {
            const target = token.type === 'link_open' ? token.attrGet('href') : null;
            if (target !== null) token.attrSet('href', resolveLink(file, target));
          }
      });
    },
  },
  themeConfig: {
    search: { provider: 'local' },
    outline: { level: [2, 3] },
    nav: [
      { text: 'Guide', link: '/getting-started' },
      { text: 'API', link: '/api/' },
    ],
    sidebar: { ...apiSidebars(), '/': guideSidebar() },
  },
});
