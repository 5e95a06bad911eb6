// Golden tests: reference values computed with the official PyTorch code. They are read from the folder that GOLDEN_DIR
// names, else from test/fixtures; cases, shapes and settings come from the files, so the same tests run on any folder
// of that layout.

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { suite, type Test } from 'uvu';
import { notRun } from '../support.ts';
import { readSafetensors, type SafetensorsEntry } from '../../nn/formats/safetensors.ts';

export type Golden = ReadonlyMap<string, SafetensorsEntry>;

/** The folder of reference values. A GOLDEN_DIR that is no folder is an error, not a reason to test nothing. */
export function goldenDir(): string {
  const named = process.env.GOLDEN_DIR;
  if (!named) return join(dirname(fileURLToPath(import.meta.url)), '..', 'fixtures');
  const folder = resolve(named);
  if (!existsSync(folder) || !statSync(folder).isDirectory())
    throw new Error(`GOLDEN_DIR is ${named}, expected a folder.`);
  return folder;
}

export function goldenPath(relative: string): string {
  return join(goldenDir(), relative);
}

export function hasGolden(relative: string): boolean {
  return existsSync(goldenPath(relative));
}

/** Tensors of a safetensors file; the extension may be left out. */
export function loadGolden(relative: string): Golden {
  const path = relative.endsWith('.safetensors') ? relative : `${relative}.safetensors`;
  return readSafetensors(readFileSync(goldenPath(path))).tensors;
}

/** A JSON file; the extension may be left out. The caller says what it expects to find. */
export function loadSidecar<T = Record<string, unknown>>(relative: string): T {
  const path = relative.endsWith('.json') ? relative : `${relative}.json`;
  return JSON.parse(readFileSync(goldenPath(path), 'utf8')) as T;
}

const KINDS = new Set([
  'in',
  'param',
  'out',
  'out64',
  'grad',
  'grad64',
  'gradparam',
  'gradparam64',
  'tap',
  'init',
  'final',
  'ema',
  'grad_step0',
]);

/**
 * Groups tensors `[case.]kind[.setting].name` by case: case → (`kind[.setting].name` → entry). The case is whatever
 * stands before the first segment that is a kind, '' where nothing does; a name without any kind has its first segment
 * as case.
 */
export function cases(golden: Golden): Map<string, Map<string, SafetensorsEntry>> {
  const grouped = new Map<string, Map<string, SafetensorsEntry>>();
  for (const [name, entry] of golden) {
    const segments = name.split('.');
    const kindAt = segments.findIndex((segment) => KINDS.has(segment));
    const cut = kindAt >= 0 ? kindAt : Math.min(1, segments.length - 1);
    const key = segments.slice(0, cut).join('.');
    let group = grouped.get(key);
    if (!group) grouped.set(key, (group = new Map()));
    group.set(segments.slice(cut).join('.'), entry);
  }
  return grouped;
}

/**
 * The tensors whose names begin with `prefix.`, under the rest of their names: `subset(g, 'param')` is a state dict.
 */
export function subset(golden: Golden, prefix: string): Map<string, SafetensorsEntry> {
  const found = new Map<string, SafetensorsEntry>();
  for (const [name, entry] of golden)
    if (name.startsWith(`${prefix}.`)) found.set(name.slice(prefix.length + 1), entry);
  return found;
}

/** The tensor `name`; an error that lists what there is otherwise. */
export function need(golden: Golden, name: string): SafetensorsEntry {
  const entry = golden.get(name);
  if (!entry) throw new Error(`no reference tensor ${name}; there are ${[...golden.keys()].slice(0, 20).join(', ')}…`);
  return entry;
}

/** Values of a reference tensor as plain numbers (integers exactly up to 2^53). */
export function numbers(entry: SafetensorsEntry): number[] {
  return Array.from(entry.data as ArrayLike<number | bigint>, Number);
}

/**
 * `max|a-b| / max|b|`, or `max|a-b|` where b is all zero; infinite where one is NaN or infinite and the other is not
 * the same.
 */
export function relativeToPeak(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  return worst(actual, expected).error;
}

export interface Closeness {
  /** What `limit` bounds: the difference relative to the peak of the reference (default), or the difference itself. */
  readonly measure?: 'relative to peak' | 'absolute';
}

/** Fails when actual and reference differ by more than `limit`, telling where, by how much, and both values there. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: SafetensorsEntry | ArrayLike<number>,
  limit: number,
  label: string,
  { measure = 'relative to peak' }: Closeness = {},
): void {
  const reference = 'dtype' in expected ? (expected.data as unknown as ArrayLike<number>) : expected;
  if (actual.length !== reference.length) {
    throw new Error(`${label}: ${actual.length} values, the reference has ${reference.length}`);
  }
  const { error, difference, index, peak } = worst(actual, reference);
  const value = measure === 'absolute' ? difference : error;
  if (!(value <= limit)) {
    const place =
      'dtype' in expected
        ? `${index} = (${unravel(index, expected.shape).join(',')}) of (${expected.shape.join(',')})`
        : `${index} of ${reference.length}`;
    throw new Error(
      `${label}: ${value.toExponential(2)} ${measure}, limit ${limit.toExponential(2)}; worst at ${place}: ` +
        `got ${actual[index]}, reference ${reference[index]} (peak ${peak.toExponential(3)})`,
    );
  }
}

/**
 * Registers the tests of one family, a path below the golden folder without extension. Where the folder lacks it, or
 * one of `files`, a test that is reported as not run stands in its place.
 */
export function family(
  name: string,
  register: (test: Test) => void,
  files: readonly string[] = [`${name}.safetensors`],
): void {
  const title = `golden ${name}`;
  const test = suite(title);
  const missing = files.filter((file) => !hasGolden(file));
  if (missing.length > 0) test(title, () => notRun(`${goldenDir()} has no ${missing.join(', ')}`, title));
  else register(test);
  test.run();
}

/**
 * The families of a folder whose sidecar `belongs`: their paths without extension. A folder holds as many as it likes,
 * under any name; what a sidecar says tells what they are. Where none belongs, a test that is reported as not run
 * stands for them.
 */
export function familiesOf<T extends object>(
  folder: string,
  what: string,
  belongs: (sidecar: Partial<T>, path: string) => boolean,
): { path: string; sidecar: T }[] {
  const found: { path: string; sidecar: T }[] = [];
  for (const path of sidecarsOf(folder)) {
    const sidecar = loadSidecar<T>(path);
    if (belongs(sidecar, path)) found.push({ path, sidecar });
  }
  if (found.length === 0) absent(`${folder}: ${what}`, `${goldenDir()} has none`);
  return found;
}

/**
 * Reports as not run what the folder's own index, or that of the whole set, lists below `folder` and the folder lacks.
 */
export function reportAbsent(folder: string): void {
  if (!hasGolden('index.json')) return;
  const { files } = loadSidecar<{ files: Record<string, unknown> }>('index');
  const lost = Object.keys(files).filter((file) => file.startsWith(`${folder}/`) && !hasGolden(file));
  for (const path of new Set(lost.map((file) => file.replace(/\.[^./]+$/, ''))))
    absent(path, `${goldenDir()} has no ${lost.filter((file) => file.startsWith(`${path}.`)).join(', ')}`);
}

function absent(name: string, reason: string): void {
  const title = `golden ${name}`;
  const test = suite(title);
  test(title, () => notRun(reason, title));
  test.run();
}

function sidecarsOf(folder: string): string[] {
  if (!hasGolden(folder)) return [];
  return readdirSync(goldenPath(folder))
    .filter((file) => file.endsWith('.json'))
    .sort()
    .map((file) => `${folder}/${file.replace(/\.json$/, '')}`);
}

/** What a sidecar may say of the reference's own error in float32, by what it measured. */
export interface ReferenceErrors {
  readonly f32_vs_f64?: Readonly<Record<string, { readonly max_rel_to_peak?: number }>>;
}

/**
 * The limit of the reference set, or ten times what float32 costs the reference itself, where a folder's numbers make
 * that more.
 */
export function limitOf(suggested: number, sidecar: ReferenceErrors, ...measured: readonly string[]): number {
  const errors = measured.map((name) => sidecar.f32_vs_f64?.[name]?.max_rel_to_peak ?? 0);
  return Math.max(suggested, ...errors.map((error) => 10 * error));
}

/** The float64 run of a result or gradient where there is one, else the float32 run. */
export function truth(golden: Golden, kind: 'out' | 'grad' | 'gradparam', name: string): SafetensorsEntry {
  return golden.get(`${kind}64.${name}`) ?? need(golden, `${kind}.${name}`);
}

/**
 * Fails when a mean of products y·r is off by more than `limit` times the mean of their sizes: where they cancel, the
 * mean itself says nothing of what rounding does to it.
 */
export function assertMean(
  actual: number,
  expected: number,
  y: ArrayLike<number>,
  r: ArrayLike<number>,
  limit: number,
  label: string,
): void {
  let size = 0;
  for (let i = 0; i < y.length; i++) size += Math.abs(y[i] * r[i]);
  assertClose([actual], [expected], (limit * size) / y.length, label, { measure: 'absolute' });
}

function worst(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
): { error: number; difference: number; index: number; peak: number } {
  let peak = 0;
  let difference = 0;
  let index = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = Number(actual[i]);
    const b = Number(expected[i]);
    if (Number.isFinite(b)) peak = Math.max(peak, Math.abs(b));
    const d = Object.is(a, b) || a === b ? 0 : Math.abs(a - b);
    const distance = Number.isNaN(d) ? Infinity : d;
    if (distance > difference) {
      difference = distance;
      index = i;
    }
  }
  return { error: difference === 0 ? 0 : peak > 0 ? difference / peak : difference, difference, index, peak };
}

function unravel(index: number, shape: readonly number[]): number[] {
  const at: number[] = [];
  for (let d = shape.length - 1; d >= 0; d--) {
    at.unshift(index % shape[d]);
    index = Math.floor(index / shape[d]);
  }
  return at;
}
