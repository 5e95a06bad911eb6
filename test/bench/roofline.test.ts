import sharp from 'sharp';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { rooflineSvg } from '../../bench/roofline.ts';
import { result, row } from './result.ts';

/** Names of elements in order of closing; throws where they don't nest or text is not escaped. */
function elements(xml: string): string[] {
  const open: string[] = [],
    closed: string[] = [];
  const rest = xml.replace(
    /<(\/?)([a-z]+)((?: [a-zA-Z][a-zA-Z0-9-]*="[^"<&]*(?:&(?:amp|lt|gt|quot);[^"<&]*)*")*)(\/?)>/g,
    (_all, end: string, name: string, _attributes: string, single: string) => {
      if (end) assert.is(open.pop(), name);
      else if (!single) open.push(name);
      if (end || single) closed.push(name);
      return '';
    },
  );
  assert.equal(open, []);
  assert.not.match(rest.replace(/&(amp|lt|gt|quot);/g, ''), /[<>&]/);
  return closed;
}

const rows = [
  row('a < b', 0.001),
  row('moves only', 0.001, { work: { bytes: 1e6, flops: 0, exps: 0, type: 'f32' } }),
  row('step', 0.01, { group: 'step' }),
];

test('the picture is well-formed and has a point for every row that computes', () => {
  const names = elements(rooflineSvg(result(rows)));
  // Two rows, and two groups in the legend.
  assert.is(names.filter((n) => n === 'circle').length, 4);
  assert.is(names.filter((n) => n === 'title').length, 2);
});

test('the picture can be drawn, also without a row, f16 or a matrix unit', async () => {
  const { ceilings } = result([]);
  const svg = rooflineSvg(result([], { ceilings: { ...ceilings, fma: { f32: 1e9, f16: null }, matrix: null } }));
  assert.not.match(svg, /NaN|Infinity/);
  elements(svg);
  const { width, height } = await sharp(Buffer.from(svg)).metadata();
  assert.equal([width, height], [1200, 720]);
});

test.run();
