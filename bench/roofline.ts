// The roofline picture (Williams, Waterman and Patterson, 2009): speed over arithmetic intensity, logarithmic both ways, with the
// ceilings that were measured as lines and every row as a point below them.

import { GROUPS, idOf, type Group } from './case.ts';
import { timeOf, type BenchResult, type BenchRow } from './result.ts';
import { quantity } from './table.ts';

const WIDTH = 1200,
  HEIGHT = 720;
const PLOT = { left: 110, right: 960, top: 60, bottom: 640 } as const;

/** Colours that differ for people who see few of them (Okabe and Ito). */
const COLOURS: Readonly<Record<Group, string>> = {
  matmul: '#0072b2',
  attention: '#882255',
  scan: '#d55e00',
  conv: '#009e73',
  norm: '#cc79a7',
  elementwise: '#e69f00',
  reduce: '#56b4e9',
  movement: '#7f7f7f',
  random: '#bcbd22',
  optimizer: '#8c564b',
  step: '#000000',
};

interface Point {
  readonly row: BenchRow;
  /** Operations a byte, and operations a second. */
  readonly intensity: number;
  readonly speed: number;
}

/** A row as a point; elementary functions count as one operation. Null for work that only moves bytes. */
function pointOf(row: BenchRow): Point | null {
  const operations = row.work.flops + row.work.exps;
  if (operations === 0 || row.work.bytes === 0) return null;
  return { row, intensity: operations / row.work.bytes, speed: operations / timeOf(row) };
}

const powers = (low: number, high: number): number[] =>
  Array.from({ length: Math.round(Math.log10(high / low)) + 1 }, (_, i) => low * 10 ** i);
const floor10 = (x: number): number => 10 ** Math.floor(Math.log10(x));
const ceil10 = (x: number): number => 10 ** Math.ceil(Math.log10(x));

const escape = (text: string): string =>
  text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;').replace(/"/g, '&quot;');

const fixed = (x: number): string => x.toFixed(1);

/** The picture as SVG text. Points carry their case and time as titles. */
export function rooflineSvg(result: BenchResult): string {
  const points = result.rows.map(pointOf).filter((p): p is Point => p !== null);
  const { copy, fma, matrix } = result.ceilings;
  const bandwidth = copy[copy.length - 1].rate,
    cached = Math.max(...copy.map((c) => c.rate));
  const top = Math.max(fma.f32, fma.f16 ?? 0, matrix ?? 0);

  const minX = floor10(Math.min(0.1, ...points.map((p) => p.intensity))),
    maxX = ceil10(Math.max(100, top / bandwidth, ...points.map((p) => p.intensity)));
  const maxY = ceil10(top * 1.01),
    minY = floor10(Math.min(maxY / 1e4, ...points.map((p) => p.speed)));
  const x = (v: number): number =>
    PLOT.left + ((PLOT.right - PLOT.left) * Math.log10(v / minX)) / Math.log10(maxX / minX);
  const y = (v: number): number =>
    PLOT.bottom - ((PLOT.bottom - PLOT.top) * Math.log10(v / minY)) / Math.log10(maxY / minY);

  const parts: string[] = [];
  for (const v of powers(minX, maxX)) {
    parts.push(
      `<line x1="${fixed(x(v))}" y1="${PLOT.top}" x2="${fixed(x(v))}" y2="${PLOT.bottom}" stroke="#e5e5e5"/>`,
      `<text x="${fixed(x(v))}" y="${PLOT.bottom + 20}" text-anchor="middle">${v < 1 ? v.toPrecision(1) : v}</text>`,
    );
  }
  for (const v of powers(minY, maxY)) {
    parts.push(
      `<line x1="${PLOT.left}" y1="${fixed(y(v))}" x2="${PLOT.right}" y2="${fixed(y(v))}" stroke="#e5e5e5"/>`,
      `<text x="${PLOT.left - 8}" y="${fixed(y(v) + 4)}" text-anchor="end">${quantity(v, 'FLOP/s')}</text>`,
    );
  }

  const slope = (rate: number, label: string, dash: string, labelAt: number): void => {
    const from = Math.max(minX, minY / rate),
      to = Math.min(maxX, top / rate);
    if (to <= from) return;
    parts.push(
      `<line x1="${fixed(x(from))}" y1="${fixed(y(from * rate))}" x2="${fixed(x(to))}" y2="${fixed(y(to * rate))}" stroke="#333" stroke-width="1.5"${dash}/>`,
      `<text x="14" y="${labelAt}" transform="translate(${fixed(x(from))} ${fixed(y(from * rate))}) rotate(${fixed(-angle(x(from), y(from * rate), x(to), y(to * rate)))})">${escape(label)}</text>`,
    );
  };
  // The lower of the two lines has its name below, so that names don't meet.
  slope(bandwidth, `copy, ${quantity(bandwidth, 'B/s')}`, '', 17);
  if (cached > 1.3 * bandwidth)
    slope(cached, `copy in cache, ${quantity(cached, 'B/s')}`, ' stroke-dasharray="5 4"', -7);
  const roof = (rate: number | null, label: string, labelAt = -5): void => {
    if (rate === null) return;
    parts.push(
      `<line x1="${fixed(x(Math.max(minX, rate / cached)))}" y1="${fixed(y(rate))}" x2="${PLOT.right}" y2="${fixed(y(rate))}" stroke="#333" stroke-width="1.5"/>`,
      `<text x="${PLOT.right - 4}" y="${fixed(y(rate) + labelAt)}" text-anchor="end">${escape(`${label}, ${quantity(rate, 'FLOP/s')}`)}</text>`,
    );
  };
  roof(fma.f32, 'f32 multiply-add');
  roof(fma.f16, 'f16 multiply-add', 15);
  roof(matrix, 'matrix unit');

  for (const { row, intensity, speed } of points) {
    parts.push(
      `<circle cx="${fixed(x(intensity))}" cy="${fixed(y(speed))}" r="${row.group === 'step' ? 6 : 4}" fill="${COLOURS[row.group]}" fill-opacity="0.65">` +
        `<title>${escape(`${idOf(row)}: ${quantity(timeOf(row), 's')}, ${(100 * row.share).toFixed(0)} % of its ceiling (${row.bound})`)}</title></circle>`,
    );
  }
  GROUPS.filter((group) => points.some((p) => p.row.group === group)).forEach((group, i) => {
    parts.push(
      `<circle cx="${PLOT.right + 30}" cy="${PLOT.top + 10 + 24 * i}" r="6" fill="${COLOURS[group]}"/>`,
      `<text x="${PLOT.right + 45}" y="${PLOT.top + 15 + 24 * i}">${group}</text>`,
    );
  });

  const { adapter, tier, date, commit } = result;
  const title = `${[...new Set([adapter.device, adapter.description])].filter(Boolean).join(', ') || adapter.vendor}, tier ${tier}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="13" fill="#222">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
<text x="${PLOT.left}" y="34" font-size="18">${escape(title)}</text>
<text x="${PLOT.right}" y="${PLOT.bottom + 46}" text-anchor="end">${escape(`${date.slice(0, 10)}, ${commit.slice(0, 9)}`)}</text>
${parts.join('\n')}
<rect x="${PLOT.left}" y="${PLOT.top}" width="${PLOT.right - PLOT.left}" height="${PLOT.bottom - PLOT.top}" fill="none" stroke="#999"/>
<text x="${(PLOT.left + PLOT.right) / 2}" y="${PLOT.bottom + 50}" text-anchor="middle">operations per byte that has to move</text>
</svg>
`;
}

/** Degrees of a line above the horizontal, in a picture whose y points down. */
function angle(x1: number, y1: number, x2: number, y2: number): number {
  return (Math.atan2(y1 - y2, x2 - x1) * 180) / Math.PI;
}
