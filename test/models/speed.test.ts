// Images a second of steps whose records arrive as they will: never infinite, and right on average.

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Speed } from '../../models/train/speed.ts';

const test = suite('speed');

test('steps that end one after the other', () => {
  const speed = new Speed(10);
  assert.is(speed.ended(0, 100), 100);
  assert.is(speed.ended(50, 200), 100);
  assert.is(speed.ended(150, 400), 75);
});

test('records that arrive at once share the time', () => {
  const speed = new Speed(10);
  speed.ended(0, 100);
  assert.is(speed.ended(50, 300), 20000 / 300);
  assert.is(speed.ended(100, 300), 30000 / 300);
});

test('the speed is finite however coarse the clock is', () => {
  const speed = new Speed(8);
  for (let i = 0; i < 10; i++) assert.ok(Number.isFinite(speed.ended(5, 5)));
});

test('a pause does not count', () => {
  const speed = new Speed(10);
  speed.ended(0, 100);
  assert.is(speed.ended(10_000, 10_100), 100);
});

test.run();
