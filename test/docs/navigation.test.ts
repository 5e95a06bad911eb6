// Every page is in the site's navigation, and every line of the navigation has a page.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { isPage } from '../../docs/site/addresses.ts';
import { pages, PROJECT, titleOf } from '../../docs/site/markdown.ts';
import { guideSidebar, SECTIONS, sectionPages } from '../../docs/site/navigation.ts';

const test = suite('navigation');
/** The first page, which the site's name leads to. */
const HOME = 'docs/index.md';
/** Pages that are being written. */
const COMING = ['docs/latents.md', 'docs/evaluation.md'];

test('every page is in the navigation, once', () => {
  const listed = SECTIONS.flatMap(sectionPages);
  const written = pages()
    .map(({ file }) => file)
    .filter((file) => isPage(file) && file !== HOME);
  assert.ok(written.length > 15);
  assert.equal(
    written.filter((file) => !listed.includes(file)),
    [],
    'pages that docs/site/navigation.ts does not list',
  );
  assert.is(new Set(listed).size, listed.length);
});

test('every line of the navigation has a page', () => {
  const named = SECTIONS.flatMap(({ files }) => files).filter((file) => !file.endsWith('/'));
  assert.equal(
    named.filter((file) => !existsSync(join(PROJECT, file)) && !COMING.includes(file)),
    [],
    'lines of docs/site/navigation.ts without a page',
  );
});

test('every page has a title, and the side bar shows it', () => {
  const untitled = pages().filter((page) => isPage(page.file) && page.file !== HOME && titleOf(page) === page.file);
  assert.equal(
    untitled.map(({ file }) => file),
    [],
  );
  const items = guideSidebar().flatMap(({ items }) => items ?? []);
  assert.ok(items.some(({ text, link }) => text === 'Getting started' && link === '/getting-started'));
  assert.ok(items.some(({ link }) => link === '/kernels/selective-scan'));
});

test.run();
