import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { UsageError } from '../../cli/errors.ts';
import { choice, didYouMean, flag, integer, list, number, probability, text, type Parser } from '../../cli/options.ts';

const test = suite('options');

function refused<T>(parse: Parser<T>, value: string): string {
  try {
    parse(value, '--flag');
  } catch (error) {
    assert.instance(error, UsageError);
    return (error as Error).message;
  }
  throw new Error(`${value} was accepted`);
}

test('whole numbers, with underscores, k and M', () => {
  const parse = integer({ min: 1, max: 2_000_000 });
  assert.equal(
    ['7', '1_000', '50k', '2M', ' 3 '].map((value) => parse(value, '--n')),
    [7, 1000, 50_000, 2_000_000, 3],
  );
  assert.is(integer()('-4', '--n'), -4);
  for (const value of ['', '0', '3M', '1.5', 'ten', '1e3', '0x10', 'NaN', 'Infinity', '9007199254740993']) {
    assert.is(refused(parse, value), `--flag is ${JSON.stringify(value)}, expected a whole number from 1 to 2000000.`);
  }
  assert.match(refused(integer({ min: 0 }), '-1'), 'expected a whole number of at least 0.');
});

test('numbers and probabilities', () => {
  assert.is(number()('1e-4', '--lr'), 1e-4);
  assert.match(refused(number({ above: 0 }), '0'), 'expected a number above 0.');
  assert.match(refused(number({ min: 0, max: 2 }), '3'), 'expected a number from 0 to 2.');
  for (const value of ['', ' ', 'x', 'Infinity', 'NaN']) refused(number(), value);
  assert.is(probability()('0.5', '--p'), 0.5);
  assert.is(probability({ closed: true })('1', '--p'), 1);
  for (const value of ['1', '-0.1', '', 'x'])
    assert.match(refused(probability(), value), 'expected a number from 0 to below 1.');
});

test('choices in any case, with the nearest one where something else is typed', () => {
  const parse = choice(['DiS-S/2', 'DiS-B/4', 'uniform']);
  assert.is(parse('dis-s/2', '--model'), 'DiS-S/2');
  assert.is(
    refused(parse, 'unifrom'),
    '--flag is "unifrom", did you mean uniform; expected one of DiS-S/2, DiS-B/4, uniform.',
  );
  assert.is(
    refused(parse, 'entirely different'),
    '--flag is "entirely different"; expected one of DiS-S/2, DiS-B/4, uniform.',
  );
});

test('lists and texts', () => {
  assert.equal(list(integer())('1, 2,3', '--n'), [1, 2, 3]);
  assert.match(refused(list(integer(), { length: 2 }), '1'), 'expected 2 values separated by commas.');
  refused(list(text), 'a,,b');
  refused(list(integer()), '1,x');
  assert.is(text('a b', '--t'), 'a b');
  refused(text, ' ');
});

test('what was meant is the nearest word, and nothing where none is near', () => {
  assert.is(didYouMean('tarin', ['train', 'sample']), ', did you mean train');
  assert.is(didYouMean('xyz', ['train', 'sample']), '');
  assert.is(didYouMean('a', []), '');
});

test('a flag names itself by its long form and keeps its default', () => {
  const option = flag('-b, --batch <n>', 'images', integer({ min: 1 }), 16);
  assert.is(option.defaultValue, 16);
  assert.is(option.parseArg!('4', undefined), 4);
  assert.throws(() => option.parseArg!('0', undefined), /^--batch is "0", expected/);
});

test.run();
