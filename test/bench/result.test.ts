import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseResult, resultJson, resultName, timeOf } from '../../bench/result.ts';
import { quantity, resultTable } from '../../bench/table.ts';
import { result, row, spread } from './result.ts';

test('a result survives being written and read', () => {
  const written = result([row('a', 0.25), row('b', 1 / 3, { gpu: spread(0.125) })]);
  const read = parseResult(resultJson(written), 'x.json');
  assert.is(read.rows.length, 2);
  assert.is(read.rows[0].wall.median, 0.25);
  assert.is(read.rows[1].wall.median, 0.333333);
  assert.equal(read.ceilings, written.ceilings);
  assert.equal(read.leftOut, written.leftOut);
});

test('what is no result is refused in words', () => {
  assert.throws(() => parseResult('{', 'x.json'), /x\.json is not JSON, expected a JSON file that `npm run bench/);
  assert.throws(() => parseResult('{"schema":0}', 'x.json'), /has schema 0 and this program reads 1/);
  const { rows: _rows, ...rest } = result([]);
  assert.throws(() => parseResult(JSON.stringify(rest), 'x.json'), /has no list of rows/);
  assert.throws(() => parseResult(JSON.stringify(result([row('a', 0)])), 'x.json'), /no name, size and time in row 0/);
});

test('a kernel counts by the better of its times, a step by the clock', () => {
  assert.is(timeOf(row('a', 2, { gpu: spread(1) })), 1);
  assert.is(timeOf(row('a', 1, { gpu: spread(2) })), 1);
  assert.is(timeOf(row('a', 2, { gpu: spread(1), group: 'step' })), 2);
});

test('results from before clocks were watched are read', () => {
  const { repeats: _repeats, pace: _pace, ...old } = row('a', 1);
  const [read] = parseResult(JSON.stringify({ ...result([]), rows: [old] }), 'x.json').rows;
  assert.equal([read.repeats, read.pace], [1, null]);
});

test('files are named by adapter and tier', () => {
  const { adapter } = result([]);
  assert.is(resultName({ adapter, tier: 'fast' }), 'acme-one-two-fast');
  assert.is(
    resultName({ adapter: { ...adapter, device: '', description: 'llvmpipe (LLVM 15, 256 bits)' }, tier: 'stock' }),
    'llvmpipe-stock',
  );
});

test('quantities have three digits and a unit', () => {
  assert.is(quantity(0, 's'), '0 s');
  assert.is(quantity(0.00123456, 's'), '1.23 ms');
  assert.is(quantity(12.3456e9, 'B/s'), '12.3 GB/s');
  assert.is(quantity(999.6, 'B'), '1.00 kB');
  assert.is(quantity(99.96e-6, 's'), '100 µs');
});

test('the table names rows, what failed, and what was left out and why', () => {
  const text = resultTable(
    result([row('product', 0.001), row('step', 0.5, { group: 'step', images: 8, size: '8×50' })], {
      failed: [{ id: 'c 1', message: 'no memory' }],
    }),
  );
  for (const part of [
    'product',
    '1.00 ms',
    '50 %',
    'images/s',
    '16.0',
    '1.25 ms',
    'c 1: no memory',
    'a 1 (about 3.1 s an iteration)',
  ])
    assert.ok(text.includes(part), part);
});

test('the table tells what a captured step costs the host, and what capturing gains', () => {
  const text = resultTable(
    result(
      [
        row('X training', 0.01, { group: 'step', size: '2×3', dispatches: 200, host: { replayed: 4e-6, eager: null } }),
        row('X training, not captured', 0.02, { group: 'step', size: '2×3', dispatches: 200 }),
      ],
      {},
    ),
  );
  assert.match(text, /^X training +2×3 +200 +4\.00 µs +8\.0 % +2\.00× as long$/m);
  assert.not.match(text, /clock: /);
});

test('the table tells where the clock of a GPU was not steady', () => {
  const pace = (before: number, after = before): { pace: { before: number; after: number } } => ({
    pace: { before, after },
  });
  const steady = resultTable(result([row('a', 1, pace(1)), row('b', 1, pace(0.98))]));
  assert.match(steady, /^clock: .* 98 % or more of its best$/m);
  const text = resultTable(result([row('a', 1, pace(1)), row('b', 1, pace(0.5, 0.9))]));
  assert.match(text, /^clock: .* 50 % or more of its best\n {2}b 8×8: 50 % before, 90 % after$/m);
});

test.run();
