import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { bytes, counted, duration, si, significant, small } from '../../cli/format.ts';
import { printable, printableJson, printableLines } from '../../cli/printable.ts';
import { Progress, defaultStyle, say, type ProgressStyle, type Terminal } from '../../cli/progress.ts';

const test = suite('progress');

class Screen implements Terminal {
  text = '';
  readonly isTTY: boolean;
  readonly columns: number;
  constructor(isTTY = true, columns = 80) {
    this.isTTY = isTTY;
    this.columns = columns;
  }
  write(text: string): void {
    this.text += text;
  }
  /** The line that the cursor is on. */
  get line(): string {
    return this.text.split('\n').at(-1)!.split('\r\x1b[K').at(-1)!;
  }
}

function make(style: ProgressStyle, { total = 100, start = 0, columns = 80 } = {}) {
  const terminal = new Screen(true, columns),
    output = new Screen(false);
  const clock = { now: 0 };
  const progress = new Progress({ total, start, style, terminal, output, now: () => clock.now });
  const step = (n: number, ms: number, loss = 0.5): void => {
    clock.now += ms;
    progress.update({ step: n, loss, imagesPerSecond: 123.4 });
  };
  return { progress, terminal, output, step };
}

test('a bar with count, percentage, loss, pace and the time that is left', () => {
  const { progress, terminal, step } = make('bar', { total: 1000, columns: 100 });
  assert.match(terminal.line, /^step {5}0\/1,000 {2}░+ {4}0 %$/);
  step(1, 60_000); // compiling
  for (let n = 2; n <= 500; n++) step(n, 200);
  assert.match(terminal.line, /^step {3}500\/1,000 {2}█+░+ {3}50 % {2}loss 0\.5000 {2}123 images\/s {2}1:40 left$/);
  assert.ok(terminal.line.length < 100);
  for (let n = 501; n <= 1000; n++) step(n, 200);
  progress.end();
  assert.match(terminal.text, /step 1,000\/1,000 {2}█+ {2}100 % {2}loss 0\.5000 {2}123 images\/s\n$/);
  assert.not.match(terminal.text.slice(terminal.text.lastIndexOf('\r')), /░|left/);
});

test('a narrow terminal never gets a line that wraps', () => {
  for (const columns of [10, 30, 50, 60]) {
    const { terminal, step } = make('bar', { columns });
    for (let n = 1; n <= 50; n++) step(n, 1000);
    for (const line of terminal.text.split('\r\x1b[K')) assert.ok(line.length < columns, `${columns}: ${line}`);
  }
});

test('notes and warnings stand above the bar; the bar comes back', () => {
  const { progress, terminal, step } = make('bar');
  step(1, 1000);
  progress.note('a note');
  progress.warn('a warning');
  assert.match(terminal.text, /\r\x1b\[Ka note\n.*\r\x1b\[Ka warning\n/s);
  assert.match(terminal.line, /^step {3}1\/100/);
  progress.end();
  progress.end();
  assert.is(terminal.text.split('\n').length, 4);
});

test('lines and JSON lines come now and then, and at the end', () => {
  const lines = make('lines'),
    json = make('json'),
    none = make('none');
  for (const { step } of [lines, json, none]) for (let n = 1; n <= 100; n++) step(n, 1000, 2);
  assert.is(lines.terminal.text.split('\n').length - 1, 10);
  assert.match(lines.terminal.text, 'step  50/100  loss 2.000  123 images/s  50 s left\n');
  const records = json.output.text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, number>);
  assert.is(records.length, 10);
  assert.equal(Object.keys(records[4]), ['step', 'total', 'loss', 'imagesPerSecond', 'secondsLeft']);
  assert.equal([records[4].step, records[4].total, records[4].secondsLeft, records[9].step], [50, 100, 50, 100]);
  assert.ok(Math.abs(records[9].loss - 2) < 1e-9);
  assert.is(json.terminal.text + none.terminal.text + none.output.text, '');
  none.progress.note('unheard');
  none.progress.warn('heard');
  assert.is(none.terminal.text, 'heard\n');
});

test('a resumed run counts on and keeps its own pace', () => {
  const { terminal, step } = make('bar', { start: 90 });
  step(91, 5000);
  step(92, 1000);
  step(93, 1000);
  assert.match(terminal.line, /93\/100 .* 7 s left$/);
});

test('a loss that is not a number does not spoil the average', () => {
  const { terminal, step } = make('bar');
  step(1, 1000, 1);
  step(2, 1000, NaN);
  assert.match(terminal.line, 'loss 1.000');
});

test('the style follows the terminal', () => {
  const term = process.env.TERM;
  process.env.TERM = 'xterm';
  assert.is(defaultStyle('json', new Screen(true), new Screen(true)), 'bar');
  assert.is(defaultStyle('json', new Screen(true), new Screen(false)), 'json');
  assert.is(defaultStyle('lines', new Screen(false), new Screen(true)), 'lines');
  process.env.TERM = 'dumb';
  assert.is(defaultStyle('lines', new Screen(true), new Screen(true)), 'lines');
  if (term === undefined) delete process.env.TERM;
  else process.env.TERM = term;
  const [terminal, file] = [new Screen(true), new Screen(false)];
  say('words', terminal);
  say('words', file);
  assert.equal([terminal.text, file.text], ['\r\x1b[Kwords\n', 'words\n']);
});

test('what others named moves no cursor, colours nothing and turns no direction', () => {
  const name = 'a\x1b]0;title\x07b\nc\u202ed\x9b31m';
  const text = 'a\\x1b]0;title\\x07b\\nc\\u{202e}d\\x9b31m';
  assert.is(printable(name), text);
  assert.is(
    printable('\u00e9 \u{1f468}\u200d\u{1f469} \u0646\u06cc\u200c'),
    '\u00e9 \u{1f468}\u200d\u{1f469} \u0646\u06cc\u200c',
  );
  assert.is(printableLines('a\nb\x1b'), 'a\nb\\x1b');
  const value = { [name]: name, half: '\ud800' };
  const json = printableJson(value, 2);
  assert.not.match(json, /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/);
  assert.equal(JSON.parse(json), value);
  let written = '';
  const terminal = { write: (chunk: string) => (written += chunk) };
  say(name, terminal);
  new Progress({ total: 1, style: 'lines', terminal }).warn(name);
  assert.is(written, `${text}\n${text}\n`);
});

test('numbers as people read them', () => {
  assert.equal([1013 * 2 ** 20, 1023.4 * 2 ** 20, 1024 ** 3, 1e6, 999].map(bytes), [
    '1,013 MiB',
    '1,023 MiB',
    '1.00 GiB',
    '977 KiB',
    '999 B',
  ]);
  assert.equal(
    [0.5, 12.345, 999.7, 123456].map((n) => significant(n)),
    ['0.500', '12.3', '1,000', '123,456'],
  );
  assert.is(small(123456), '123,456');

  assert.equal([0, 999, 1234, 28_488_008, 1.49e10, 999_600].map(si), [
    '0',
    '999',
    '1.23 k',
    '28.5 M',
    '14.9 G',
    '1.00 M',
  ]);
  assert.equal([0, 1023, 1536, 3 * 2 ** 30].map(bytes), ['0 B', '1023 B', '1.50 KiB', '3.00 GiB']);
  assert.equal([0.4, 59.4, 187, 3723, 200_000, NaN].map(duration), [
    '0 s',
    '59 s',
    '3:07',
    '1:02:03',
    '2 d 07:33',
    '–',
  ]);
  assert.equal([0, 0.05123, 1.5, 0.000123].map(small), ['0.000', '0.05123', '1.500', '1.23e-4']);
  assert.equal([counted(1, 'class', 'classes'), counted(1200, 'image')], ['1 class', '1,200 images']);
});

test.run();
