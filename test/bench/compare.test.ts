import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { againstTable, verdict } from '../../bench/against.ts';
import { compareResults, comparisonText } from '../../bench/compare.ts';
import { result, row, spread } from './result.ts';

test('differences are called one only beyond the spread', () => {
  const before = result([
    row('same', 1),
    row('faster', 1),
    row('slower', 1),
    row('noisy', 1, { wall: spread(1, 0.3) }),
    row('gone', 1),
  ]);
  const after = result([row('same', 1.04), row('faster', 0.5), row('slower', 1.2), row('noisy', 1.4), row('new', 1)]);
  const verdicts = Object.fromEntries(compareResults(before, after).map((c) => [c.id, c.verdict]));
  assert.equal(verdicts, { 'same 8×8': 'same', 'faster 8×8': 'faster', 'slower 8×8': 'slower', 'noisy 8×8': 'same' });
  assert.is(compareResults(before, after).find((c) => c.id === 'faster 8×8')!.ratio, 2);
});

test('a machine that changed is pointed out', () => {
  const before = result([row('a', 1)]);
  const after = result([row('a', 2)], {
    ceilings: { ...before.ceilings, copy: [{ footprint: 1e9, rate: 5e10 }] },
    tier: 'fast',
  });
  const text = comparisonText(before, after);
  assert.match(text, 'A copy runs at 0.50× the speed');
  assert.match(text, 'The adapters differ');
  assert.match(text, '0 faster, 1 slower, 0 within the spread.');
  assert.is(comparisonText(result([row('a', 1)]), result([row('b', 1)])), 'The two results have no case in common.');
});

test('two builds in alternation are told apart by the quartiles of their ratio', () => {
  assert.is(verdict(spread(1.5, 0.1)), 'faster');
  assert.is(verdict(spread(0.8, 0.1)), 'slower');
  assert.is(verdict(spread(1.05, 0.1)), 'same');
  assert.match(
    againstTable([{ id: 'a', before: spread(2), after: spread(1), ratio: spread(2) }]),
    /a {2,}2\.00 s {2}1\.00 s {2}2\.00× {2}1\.98–2\.02 {2}faster\n1 faster/,
  );
  assert.is(againstTable([]), 'No case ran in both builds.');
});

test.run();
