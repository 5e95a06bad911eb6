// VitePress's own theme with the project's colours, and the quick start's samples on the first page.

import { h } from 'vue';
import type { Theme } from 'vitepress';
import theme from 'vitepress/theme';
import samples from '../../quickstart.png';
import './style.css';

export default {
  extends: theme,
  Layout: () =>
    h(theme.Layout, null, {
      'home-hero-image': () =>
        h('img', {
          class: 'VPImage samples',
          src: samples,
          alt: 'Samples of the quick start: ten classes of shapes, a row each',
        }),
    }),
} satisfies Theme;
