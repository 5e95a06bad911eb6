import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  readSafetensors,
  readSafetensorsHeader,
  safetensorsEntry,
  safetensorsHeaderBytes,
  type SafetensorsEntry,
} from '../../../nn/formats/safetensors.ts';
import { layoutSafetensors, writeSafetensors } from '../../../nn/formats/safetensorsWrite.ts';
import {
  bfloat16BitsToFloat32,
  float16BitsToFloat32,
  float32ToBfloat16Bits,
  float32ToFloat16Bits,
  fromFloat32,
  toFloat32,
} from '../../../nn/formats/safetensorsFloat.ts';
import { parseHeaderJson } from '../../../nn/formats/headerJson.ts';

const ALL: [string, SafetensorsEntry][] = [
  ['bool', { dtype: 'BOOL', shape: [3], data: Uint8Array.of(1, 0, 1) }],
  ['u8', { dtype: 'U8', shape: [5], data: Uint8Array.of(0, 1, 127, 128, 255) }],
  ['i8', { dtype: 'I8', shape: [1, 3], data: Int8Array.of(-128, 0, 127) }],
  ['u16', { dtype: 'U16', shape: [2], data: Uint16Array.of(1, 65535) }],
  ['i16', { dtype: 'I16', shape: [2], data: Int16Array.of(-32768, 32767) }],
  ['f16', { dtype: 'F16', shape: [2], data: Uint16Array.of(0x3c00, 0xfc00) }],
  ['bf16', { dtype: 'BF16', shape: [1], data: Uint16Array.of(0x3f80) }],
  ['u32', { dtype: 'U32', shape: [1], data: Uint32Array.of(4294967295) }],
  ['i32', { dtype: 'I32', shape: [1], data: Int32Array.of(-2147483648) }],
  ['f32', { dtype: 'F32', shape: [2, 2], data: Float32Array.of(1, -0, NaN, Infinity) }],
  ['u64', { dtype: 'U64', shape: [1], data: BigUint64Array.of(18446744073709551615n) }],
  ['i64', { dtype: 'I64', shape: [1], data: BigInt64Array.of(-9223372036854775808n) }],
  ['f64', { dtype: 'F64', shape: [1], data: Float64Array.of(Math.PI) }],
  ['scalar', { dtype: 'F32', shape: [], data: Float32Array.of(3.25) }],
  ['empty', { dtype: 'F64', shape: [0, 4], data: new Float64Array(0) }],
];

function bytesOf(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** A file of an arbitrary header text over `dataBytes` zero bytes. */
function fileOf(header: string, dataBytes = 0): Uint8Array {
  const json = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + json.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  return file;
}

test('every dtype survives a round trip, in order, with its metadata', () => {
  const file = writeSafetensors(ALL, [
    ['format', 'pt'],
    ['quote', 'a "b" \\ ü \n'],
  ]);
  const { tensors, metadata } = readSafetensors(file);
  assert.equal(
    [...metadata],
    [
      ['format', 'pt'],
      ['quote', 'a "b" \\ ü \n'],
    ],
  );
  assert.equal(
    [...tensors.keys()],
    ALL.map(([name]) => name),
  );
  for (const [name, entry] of ALL) {
    const { dtype, shape, data } = tensors.get(name)!;
    assert.equal([dtype, shape, data.constructor], [entry.dtype, entry.shape, entry.data.constructor], name);
    assert.equal(bytesOf(data), bytesOf(entry.data), name);
  }
});

test('the data begins at a multiple of 8 and each tensor at a multiple of its element size', () => {
  const file = writeSafetensors(ALL, [['k', 'v']]);
  const header = readSafetensorsHeader(file, file.length);
  assert.is(header.dataStart % 8, 0);
  for (const [name, { begin }] of header.tensors) {
    const entry = ALL.find(([n]) => n === name)![1];
    assert.is(begin % entry.data.BYTES_PER_ELEMENT, 0, name);
  }
});

test('reads a file that begins at an odd address', () => {
  const file = writeSafetensors(ALL);
  const shifted = new Uint8Array(file.length + 1);
  shifted.set(file, 1);
  assert.equal(readSafetensors(shifted.subarray(1)).tensors.get('f64'), ALL.find(([n]) => n === 'f64')![1]);
});

test('the header can be read from the beginning of a stream, and tensors one by one', () => {
  const file = writeSafetensors(ALL);
  const length = safetensorsHeaderBytes(file.subarray(0, 8));
  const header = readSafetensorsHeader(file.subarray(0, length));
  assert.is(header.dataStart + header.dataBytes, file.length);
  const info = header.tensors.get('i64')!;
  const entry = safetensorsEntry(info, file.slice(header.dataStart + info.begin, header.dataStart + info.end));
  assert.equal(entry.data, BigInt64Array.of(-9223372036854775808n));
  assert.throws(() => readSafetensorsHeader(file.subarray(0, length - 1)), /expected the whole header/);
});

test('a layout lets a file be written tensor by tensor', () => {
  const layout = layoutSafetensors(ALL);
  const parts = [layout.header];
  for (const name of layout.tensors.keys()) {
    const { data } = ALL.find(([n]) => n === name)![1];
    parts.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  assert.equal(Uint8Array.from(parts.flatMap((part) => [...part])), writeSafetensors(ALL));
});

test('names of Object.prototype are ordinary names', () => {
  const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', ''];
  const file = writeSafetensors(names.map((name, i) => [name, { dtype: 'F32', shape: [1], data: Float32Array.of(i) }]));
  const { tensors } = readSafetensors(file);
  assert.equal([...tensors.keys()], names);
  assert.equal(tensors.get('__proto__')!.data, Float32Array.of(0));
  assert.is(({} as Record<string, unknown>).dtype, undefined);
});

test('a file without tensors is a file', () => {
  assert.is(readSafetensors(writeSafetensors([])).tensors.size, 0);
});

test('refuses headers that lie', () => {
  const f32 = '"dtype":"F32"';
  const cases: [string, number, RegExp][] = [
    [`{"a":{${f32},"shape":[9007199254740993],"data_offsets":[0,4]}}`, 4, /shape .* non-negative integers/],
    [`{"a":{${f32},"shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}`, 0, /overflows/],
    [`{"a":{${f32},"shape":[1],"data_offsets":[0,4],"x":1}}`, 4, /unknown field "x"/],
    [`{"a":{${f32},"shape":[1],"data_offsets":[4]}}`, 4, /two non-negative integers/],
    [`{"a":{${f32},"shape":1,"data_offsets":[0,4]}}`, 4, /shape 1, expected an array/],
    [`{"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}}`, 4, /dtype 7, expected one of/],
    [`{"a":{"dtype":"toString","shape":[1],"data_offsets":[0,4]}}`, 4, /dtype "toString", expected one of/],
    [`{"a":7}`, 0, /"a" is 7, expected an object/],
    [`{"a":{${f32},"shape":[1],"data_offsets":[0,4]},"b":{${f32},"shape":[1],"data_offsets":[0,4]}}`, 4, /overlaps/],
    [`{"__metadata__":[]}`, 0, /__metadata__ is \[\], expected an object/],
    [`{"a":{${f32},"shape":[1],"data_offsets":[0,4],"shape":[1]}}`, 4, /repeated key "shape"/],
    ['\ufeff{}', 0, /not valid JSON/],
    ['{} x', 0, /not valid JSON: unexpected "x" after the value/],
    [`${'['.repeat(5000)}`, 0, /nesting deeper than 32/],
  ];
  for (const [header, bytes, message] of cases) {
    assert.throws(
      () => readSafetensors(fileOf(header, bytes)),
      (error: Error) => error.name === 'FormatError' && message.test(error.message),
      header.slice(0, 80),
    );
  }
});

test('refuses to write what it would not read', () => {
  const one: SafetensorsEntry = { dtype: 'F32', shape: [1], data: Float32Array.of(1) };
  assert.throws(() => writeSafetensors([['__metadata__', one]]), /reserves/);
  assert.throws(
    () =>
      writeSafetensors([
        ['a', one],
        ['a', one],
      ]),
    /two tensors are called "a"/,
  );
  assert.throws(() => writeSafetensors([['a', { ...one, shape: [2] }]]), /holds 1 values, expected 2/);
  assert.throws(() => writeSafetensors([['a', { ...one, shape: [-1, -1] }]]), /non-negative integers/);
  assert.throws(
    () => writeSafetensors([['a', { dtype: 'F16', shape: [1], data: Float32Array.of(1) } as never]]),
    /holds a Float32Array, expected a Uint16Array/,
  );
  assert.throws(
    () => writeSafetensors([['a', { dtype: 'F33', shape: [1], data: Float32Array.of(1) } as never]]),
    /F33/,
  );
  assert.throws(() => writeSafetensors([], [['k', 1 as never]]), /expected a string/);
  assert.throws(() => fromFloat32(new Float32Array(3), [2]), /needs 2 values, got 3/);
});

test('float16 patterns convert exactly and round to nearest, ties to even', () => {
  const bits = Uint16Array.of(0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0x7bff, 0x7c00, 0xfc00);
  const values = Float32Array.of(0, -0, 2 ** -24, 1023 * 2 ** -24, 2 ** -14, 1, 65504, Infinity, -Infinity);
  assert.equal(float16BitsToFloat32(bits), values);
  assert.equal(float32ToFloat16Bits(values), bits);
  assert.equal(
    float32ToFloat16Bits(Float32Array.of(1 + 2 ** -11, 1 + 3 * 2 ** -11, 65520)),
    Uint16Array.of(0x3c00, 0x3c02, 0x7c00),
  );
  assert.ok(Number.isNaN(float16BitsToFloat32(Uint16Array.of(0x7e00))[0]));
});

test('bfloat16 patterns convert exactly and round to nearest, ties to even; NaN stays NaN', () => {
  assert.equal(bfloat16BitsToFloat32(Uint16Array.of(0x3f80, 0xc040, 0x7f80)), Float32Array.of(1, -3, Infinity));
  assert.equal(
    float32ToBfloat16Bits(Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 3.4e38, -0)),
    Uint16Array.of(0x3f80, 0x3f82, 0x7f80, 0x8000),
  );
  const nan = new Float32Array(Uint32Array.of(0x7fffffff, 0x7f800001).buffer);
  assert.ok(bfloat16BitsToFloat32(float32ToBfloat16Bits(nan)).every(Number.isNaN));
});

test('toFloat32 takes every dtype', () => {
  const value = (entry: SafetensorsEntry): number[] => [...toFloat32(entry)];
  const by = new Map(ALL);
  assert.equal(value(by.get('bool')!), [1, 0, 1]);
  assert.equal(value(by.get('i64')!), [-9223372036854775808]);
  assert.equal(value(by.get('f64')!), [Math.fround(Math.PI)]);
  assert.equal(value(by.get('bf16')!), [1]);
  assert.equal(value(by.get('i16')!), [-32768, 32767]);
  for (const dtype of ['F32', 'F16', 'BF16'] as const)
    assert.equal(value(fromFloat32(Float32Array.of(0.5, -2), [2], dtype)), [0.5, -2]);
});

test('header JSON agrees with JSON.parse on what both accept', () => {
  const plain = (value: unknown): unknown =>
    value instanceof Map
      ? Object.fromEntries([...value].map(([k, v]) => [k, plain(v)]))
      : Array.isArray(value)
        ? value.map(plain)
        : value;
  for (const text of [
    '{}',
    '[]',
    ' { "a" : [ 1 , -0.5e3, true,false,null ] , "b\\u00e9\\"\\\\":{} } ',
    '"x"',
    '12',
    '[[],[{}]]',
  ]) {
    assert.equal(plain(parseHeaderJson(text)), JSON.parse(text), text);
  }
  for (const text of [
    '',
    '{',
    '[1,]',
    '{"a":1,}',
    '{a:1}',
    '01',
    '1.',
    '+1',
    '"a',
    '"\n"',
    '"\\x"',
    'nul',
    '{"a" 1}',
    '[1 2]',
    '\u00a01',
  ]) {
    assert.throws(() => JSON.parse(text), undefined, text);
    assert.throws(
      () => parseHeaderJson(text),
      (error: Error) => error instanceof SyntaxError,
      text,
    );
  }
});

test('8-bit floats are numbers', () => {
  const file = writeSafetensors([
    [
      'e4m3',
      {
        dtype: 'F8_E4M3',
        shape: [10],
        data: Uint8Array.of(0x38, 0xb8, 0x01, 0x07, 0x08, 0x7e, 0xfe, 0x7f, 0xff, 0x80),
      },
    ],
    ['e5m2', { dtype: 'F8_E5M2', shape: [8], data: Uint8Array.of(0x3c, 0xbc, 0x01, 0x04, 0x7b, 0x7c, 0xfc, 0x7e) }],
  ]);
  const { tensors } = readSafetensors(file);
  // Values of the types' table (arXiv 2209.05433).
  assert.equal([...toFloat32(tensors.get('e4m3')!)], [1, -1, 2 ** -9, 7 * 2 ** -9, 2 ** -6, 448, -448, NaN, NaN, -0]);
  assert.equal([...toFloat32(tensors.get('e5m2')!)], [1, -1, 2 ** -16, 2 ** -14, 57344, Infinity, -Infinity, NaN]);
});

test('a tensor of a type that is not read leaves the others readable, and is refused when it is asked for', () => {
  for (const [dtype, bytes] of [
    ['F4', 2],
    ['F6_E2M3', 3],
    ['F8_E8M0', 4],
    ['C64', 32],
  ] as const) {
    const header = `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"${dtype}","shape":[4],"data_offsets":[4,${4 + bytes}]}}`;
    const { tensors } = readSafetensors(fileOf(header, 4 + bytes));
    assert.equal([...tensors.keys()], ['a']);
    assert.equal([...tensors.get('a')!.data], [0]);
    assert.is(tensors.unreadable.get('b')!.dtype, dtype);
    assert.throws(
      () => tensors.get('b'),
      new RegExp(`tensor "b" has dtype ${dtype}, which is not read, expected one of F64`),
    );
    // Its size is checked all the same.
    assert.throws(() => readSafetensors(fileOf(header.replace('[4]', '[12]'), 4 + bytes)), /needs \d+ bytes/);
  }
});

test('a header that would take gigabytes is refused within seconds and megabytes', () => {
  const million = Array.from(
    { length: 1_000_000 },
    (_, i) => `"t${i}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`,
  );
  const fill = (text: string, bytes: number): string => text.repeat(Math.floor(bytes / text.length));
  const most = 2 ** 24 - 64;
  const headers: [string, RegExp][] = [
    [`{${million.join(',')}}`, /header length is \d+ bytes, expected at most 16777216; .* too many tensors/],
    [`{${million.slice(0, 240_000).join(',')},"x":0}`, /"x" is 0/],
    [`{"a":[${fill('{},', most)}0]}`, /more than 250000 objects/],
    [`{"a":[${fill('0,', most)}0]}`, /more than 2500000 values/],
    [`{"a":[${fill('[],', most)}0]}`, /more than 2500000 values/],
    [`{"__metadata__":{${fill('"a":"",', 64)}"a":""}}`, /repeated key "a"/],
    [`{"${fill('n', most)}":0}`, /^.{0,300}$/],
    [`{"a":"${fill('\\\\', most)}"}`, /^.{0,300}$/],
    [fill('[', most), /nesting deeper than 32/],
    [fill(' ', most), /not valid JSON/],
  ];
  for (const [header, pattern] of headers) {
    const file = fileOf(header);
    const [cpu, peak] = [process.cpuUsage(), process.resourceUsage().maxRSS];
    assert.throws(() => readSafetensors(file), pattern);
    const { user, system } = process.cpuUsage(cpu);
    const seconds = (user + system) / 1e6,
      megabytes = (process.resourceUsage().maxRSS - peak) / 1024;
    // Of the processor, since others may use it too.
    // Two seconds, on a machine that is three times slower.
    assert.ok(seconds < 6 && megabytes < 300, `${header.slice(0, 40)}…: ${seconds} s, ${megabytes} MB`);
  }
});

test.run();
