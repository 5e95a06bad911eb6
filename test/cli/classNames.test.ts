import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { labelsOf } from '../../cli/classNames.ts';
import { UsageError } from '../../cli/errors.ts';

const test = suite('classNames');

const refused = (list: string, names: readonly string[], pattern: RegExp): void => {
  assert.throws(
    () => labelsOf(list, names, names.length),
    (error: Error) => error instanceof UsageError && pattern.test(error.message),
    list,
  );
};

test('exact names come first, then any case where that is one class only', () => {
  const names = ['A', 'B', 'a', 'b', 'Zebra'];
  assert.equal(labelsOf('a,b', names, 5), [2, 3]);
  assert.equal(labelsOf('A, b ,B', names, 5), [0, 3, 1]);
  assert.equal(labelsOf('zebra,ZEBRA', names, 5), [4, 4]);
  refused('XY,xy', ['Xy', 'xY'], /names "XY", which may be "Xy", "xY"; write it as it is, or give a number: 0, 1\./);
});

test('both Unicode forms are the same name, and cases are those of all scripts', () => {
  const names = ['caf\u00e9', 'stra\u00dfe', '\u03c3\u03bf\u03c6\u03cc\u03c2', '\uac00'];
  assert.equal(labelsOf('cafe\u0301,CAFE\u0301', names, 4), [0, 0]);
  assert.equal(labelsOf('STRASSE', names, 4), [1]);
  assert.equal(labelsOf('\u03a3\u039f\u03a6\u038c\u03a3', names, 4), [2]);
  assert.equal(labelsOf('\u1100\u1161', names, 4), [3]);
  assert.equal(labelsOf('cafe\u0301', ['cafe\u0301'], 1), [0]);
});

test('numbers are labels where no class is called so, and a name may hold commas', () => {
  assert.equal(labelsOf('1,7,0', ['7', 'x'], 2), [1, 0, 0]);
  assert.equal(labelsOf('3', [], 4), [3]);
  assert.equal(labelsOf('tench, Tinca tinca,goldfish', ['goldfish', 'tench, Tinca tinca'], 2), [1, 0]);
  refused('4', [], /names "4"; expected a number from 0 to -1/);
  refused('gold', ['goldfish', 'tench'], /did you mean goldfish|expected a number from 0 to 1, or one of/);
  refused('cat,', ['cat'], /names ""/);
});

test.run();
