// Links inside of the documents lead somewhere: to a file or folder of the project, and to a heading where they name one.

import { existsSync } from 'node:fs';
import { join, posix } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { anchors, links, pages, PROJECT } from '../../docs/site/markdown.ts';

const test = suite('links');
const all = pages();
const headings = new Map(all.map((page) => [page.file, anchors(page)]));

/** What is wrong with a link of a file, or null. */
function problem(file: string, target: string): string | null {
  const [path, anchor] = target.split('#');
  const to = path === '' ? file : posix.normalize(posix.join(posix.dirname(file), decodeURIComponent(path)));
  if (to.startsWith('..')) return 'leads out of the project';
  if (!existsSync(join(PROJECT, to))) return `there is no ${to}`;
  if (anchor !== undefined && !headings.get(to)?.has(anchor)) return `${to} has no heading #${anchor}`;
  return null;
}

test('links lead to files and headings that exist', () => {
  const inside = all.flatMap((page) =>
    links(page)
      .filter(({ target }) => !/^[a-z]+:/i.test(target))
      .map(({ line, target }) => ({ file: page.file, line, target })),
  );
  assert.ok(inside.length > 10);
  const wrong = inside.flatMap(({ file, line, target }) => {
    const what = problem(file, target);
    return what === null ? [] : [`${file}:${line}: ${target}: ${what}`];
  });
  assert.equal(wrong, []);
});

test('what leads nowhere is found', () => {
  assert.is(problem('README.md', 'docs/nowhere.md'), 'there is no docs/nowhere.md');
  assert.is(problem('docs/kernels/README.md', '../../../x'), 'leads out of the project');
  assert.is(problem('README.md', '#no-such-heading'), 'README.md has no heading #no-such-heading');
});

test.run();
