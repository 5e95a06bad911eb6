// Text of a tensor's values, laid out as NumPy does with its default options: 8 digits, lines of 75 characters, the
// middle left out above 1,000 elements.

import { f16round } from '@petamoriken/float16';
import { isFloat, type DType } from './dtype.ts';
import { numelOf, type Shape } from './shape.ts';

const EDGE = 3;
const THRESHOLD = 1000;
const LINE = 75;
const PRECISION = 8;

/** Values in brackets, aligned at the decimal point. */
export function format(data: ArrayLike<number>, shape: Shape, dtype: DType): string {
  if (!shape.length) return scalar(data[0], dtype);
  if (!data.length) return '[]';
  const summary = data.length > THRESHOLD;
  const shown: number[] = [];
  const walk = (dim: number, at: number): void => {
    if (dim === shape.length) {
      shown.push(data[at]);
      return;
    }
    const step = numelOf(shape.slice(dim + 1));
    for (const i of places(shape[dim], summary)) if (i !== null) walk(dim + 1, at + i * step);
  };
  walk(0, 0);
  const text = formatter(shown, dtype);
  // A line gives way to the brackets that close behind it.
  const build = (dim: number, at: number, width: number): string => {
    const step = numelOf(shape.slice(dim + 1));
    const indent = ' '.repeat(dim + 1);
    const items = places(shape[dim], summary);
    if (dim < shape.length - 1) {
      const rows = items.map((i) => (i === null ? '...' : build(dim + 1, at + i * step, width - 1)));
      return `[${rows.join('\n'.repeat(shape.length - dim - 1) + indent)}]`;
    }
    let done = '',
      line = indent;
    items.forEach((i, k) => {
      const word = i === null ? '...' : text(data[at + i]);
      if (line.length + word.length > width - 1 && line.length > indent.length) {
        done += `${line.trimEnd()}\n`;
        line = indent;
      }
      line += k < items.length - 1 ? `${word} ` : word;
    });
    return `[${(done + line).slice(indent.length)}]`;
  };
  return build(0, 0, LINE);
}

/** Indices along a dimension; null for those left out. */
function places(size: number, summary: boolean): (number | null)[] {
  const all = Array.from({ length: size }, (_, i) => i);
  return summary && size > 2 * EDGE ? [...all.slice(0, EDGE), null, ...all.slice(-EDGE)] : all;
}

function scalar(value: number, dtype: DType): string {
  if (dtype === 'bool') return value ? 'True' : 'False';
  if (!isFloat(dtype)) return String(value);
  if (!Number.isFinite(value)) return special(value);
  const size = Math.abs(value);
  const [digits, exponent] = scientific(value, dtype).split('e');
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) return `${digits}e${signed(exponent, 2)}`;
  const text = positional(value, dtype);
  return text.endsWith('.') ? `${text}0` : text;
}

function special(value: number): string {
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

/** What prints each of these values at the same width. */
function formatter(values: readonly number[], dtype: DType): (v: number) => string {
  if (!isFloat(dtype)) {
    const text = dtype === 'bool' ? (v: number): string => (v ? 'True' : 'False') : String;
    const width = dtype === 'bool' ? 5 : Math.max(...values.map((v) => text(v).length));
    return (v) => text(v).padStart(width);
  }
  const finite = values.filter(Number.isFinite);
  const sizes = finite.filter((v) => v !== 0).map(Math.abs);
  const largest = Math.max(0, ...sizes),
    least = Math.min(Infinity, ...sizes);
  let write: (v: number) => string;
  if (largest >= (dtype === 'f16' ? 1e3 : 1e6) || least < 1e-4 || (sizes.length && largest / least > 1000)) {
    const parts = finite.map((v) => scientific(v, dtype).split('e'));
    const digits = Math.max(...parts.map(([m]) => (m.split('.')[1] ?? '').length)),
      exponent = Math.max(2, ...parts.map(([, e]) => e.length - 1));
    write = (v) => {
      const [m, e] = (sign(v) + v.toExponential(digits)).split('e');
      return `${digits ? m : `${m}.`}e${signed(e, exponent)}`;
    };
  } else {
    const right = Math.max(0, ...finite.map((v) => positional(v, dtype).split('.')[1].length));
    write = (v) => {
      const text = positional(v, dtype);
      return text + ' '.repeat(right - text.split('.')[1].length);
    };
  }
  const width = Math.max(...values.map((v) => (Number.isFinite(v) ? write(v) : special(v)).length));
  return (v) => (Number.isFinite(v) ? write(v) : special(v)).padStart(width);
}

/** The fewest digits that give the value back in its type, as `d.ddde±x`. */
function scientific(value: number, dtype: DType): string {
  const round = dtype === 'f16' ? f16round : Math.fround;
  for (let digits = 0; digits < PRECISION; digits++) {
    const text = value.toExponential(digits);
    if (round(Number(text)) === value) return sign(value) + text;
  }
  return sign(value) + value.toExponential(PRECISION);
}

/** The same without an exponent: `ddd.ddd`, the point always there, at most 8 digits after it. */
function positional(value: number, dtype: DType): string {
  const [mantissa, exponent] = scientific(value, dtype).split('e');
  const places = Math.max(0, (mantissa.split('.')[1] ?? '').length - Number(exponent));
  const text =
    places > PRECISION
      ? value.toFixed(PRECISION).replace(/0+$/, '')
      : Number(`${mantissa}e${exponent}`).toFixed(places);
  const unsigned = text.replace('-', '');
  return `${value < 0 || Object.is(value, -0) ? '-' : ''}${unsigned.includes('.') ? unsigned : `${unsigned}.`}`;
}

/** JavaScript writes -0 as 0. */
function sign(value: number): string {
  return Object.is(value, -0) ? '-' : '';
}

/** An exponent of at least so many digits. */
function signed(exponent: string, digits: number): string {
  return exponent[0] + exponent.slice(1).padStart(digits, '0');
}
