import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { onnxModel } from '../../bench/peers/onnx.ts';
import { difference, digestOf, valuesOf, WORKS } from '../../bench/peers/works.ts';

test('inputs are the same in every process and fill their range', () => {
  const input = { shape: [40, 50], low: -3, high: 5 };
  const values = valuesOf(input, 2);
  assert.equal(values, valuesOf(input, 2));
  assert.not.equal(values, valuesOf(input, 3));
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  assert.ok(
    Math.abs(mean - 1) < 0.2 && Math.min(...values) < -2.9 && Math.max(...values) > 4.9 && Math.max(...values) < 5,
  );
});

test('digests tell wrong results from rounded ones', () => {
  const right = Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i));
  const rounded = right.map((v) => v * (1 + 1e-6)),
    wrong = right.map((v, i) => (i >= 500 ? v + 0.5 : v));
  const d = (v: Float32Array) => [digestOf(v)];
  assert.ok(difference(d(right), d(rounded)) < 1e-5);
  assert.ok(difference(d(right), d(wrong)) > 0.1);
  assert.is(difference(d(right), d(right.slice(1))), Infinity);
  assert.is(difference(d(right), d(right.map(() => NaN))), Infinity);
});

test('works have names of their own', () => {
  assert.is(new Set(WORKS.map((w) => w.id)).size, WORKS.length);
});

/** Fields of a protocol buffer: numbers, and bytes for everything longer. */
function fields(bytes: Uint8Array): [field: number, value: number | Uint8Array][] {
  const out: [number, number | Uint8Array][] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0,
      shift = 1;
    for (; ; shift *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    if ((tag & 7) === 0) {
      out.push([tag >> 3, varint()]);
      continue;
    }
    const length = (tag & 7) === 5 ? 4 : varint();
    out.push([tag >> 3, bytes.slice(at, (at += length))]);
  }
  return out;
}

test('ONNX models are written as onnx.proto3 says', () => {
  const model = onnxModel({ x: [300, 2] }, [['Conv', ['x', 'w'], 'y', { group: 129, epsilon: 0.5, pads: [3, 0] }]], {
    y: [300],
  });
  const inside = (list: ReturnType<typeof fields>, field: number, which = 0): ReturnType<typeof fields> =>
    fields(list.filter(([f]) => f === field)[which][1] as Uint8Array);
  const text = (list: ReturnType<typeof fields>, field: number): string[] =>
    list.filter(([f]) => f === field).map(([, v]) => new TextDecoder().decode(v as Uint8Array));
  const numbers = (list: ReturnType<typeof fields>, field: number): unknown[] =>
    list.filter(([f]) => f === field).map(([, v]) => v);
  const top = fields(model);
  assert.equal(numbers(top, 1), [8]);
  assert.equal(numbers(inside(top, 8), 2), [17]);
  const graph = inside(top, 7),
    node = inside(graph, 1);
  assert.equal([text(node, 1), text(node, 2), text(node, 4)], [['x', 'w'], ['y'], ['Conv']]);
  const [group, epsilon, pads] = [0, 1, 2].map((k) => inside(node, 5, k));
  assert.equal([text(group, 1), numbers(group, 3), numbers(group, 20)], [['group'], [129], [2]]);
  assert.equal(
    [text(epsilon, 1), new Float32Array((numbers(epsilon, 2)[0] as Uint8Array).buffer)[0], numbers(epsilon, 20)],
    [['epsilon'], 0.5, [1]],
  );
  assert.equal([numbers(pads, 8), numbers(pads, 20)], [[3, 0], [7]]);
  const tensor = inside(inside(inside(graph, 11), 2), 1);
  assert.equal(numbers(tensor, 1), [1]);
  assert.equal(
    [0, 1].map((k) => numbers(inside(inside(tensor, 2), 1, k), 1)[0]),
    [300, 2],
  );
  assert.equal(text(inside(graph, 12), 1), ['y']);
});

test.run();
