// Writes ONNX models of a few nodes, as the protocol buffers that onnx.proto3 (github.com/onnx/onnx) describes.

export type OnnxNode = readonly [
  type: string,
  inputs: readonly string[],
  output: string,
  attributes?: Readonly<Record<string, number | readonly number[]>>,
];

type Bytes = readonly number[];

const text = (value: string): Bytes => [...new TextEncoder().encode(value)];

function varint(value: number | bigint): number[] {
  const out: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    out.push(rest ? low | 128 : low);
  } while (rest);
  return out;
}

const number = (field: number, value: number): Bytes => [...varint(field << 3), ...varint(value)];
const bytes = (field: number, value: Bytes): Bytes => [...varint((field << 3) | 2), ...varint(value.length), ...value];
const float = (field: number, value: number): Bytes => [
  ...varint((field << 3) | 5),
  ...new Uint8Array(Float32Array.of(value).buffer),
];

const FLOAT = 1,
  INT = 2,
  INTS = 7;

/** AttributeProto: name = 1, f = 2, i = 3, ints = 8, type = 20. Whole numbers are integers. */
function attribute(name: string, value: number | readonly number[]): Bytes {
  const head = bytes(1, text(name));
  if (typeof value !== 'number') return [...head, ...value.flatMap((v) => number(8, v)), ...number(20, INTS)];
  return Number.isInteger(value)
    ? [...head, ...number(3, value), ...number(20, INT)]
    : [...head, ...float(2, value), ...number(20, FLOAT)];
}

/** NodeProto: input = 1, output = 2, op_type = 4, attribute = 5. */
function node([type, inputs, output, attributes = {}]: OnnxNode): Bytes {
  return [
    ...inputs.flatMap((name) => bytes(1, text(name))),
    ...bytes(2, text(output)),
    ...bytes(4, text(type)),
    ...Object.entries(attributes).flatMap(([name, value]) => bytes(5, attribute(name, value))),
  ];
}

/** ValueInfoProto of an f32 tensor: name = 1, type = 2 { tensor_type = 1 { elem_type = 1, shape = 2 { dim = 1 { dim_value = 1 } } } }. */
function valueInfo(name: string, shape: readonly number[]): Bytes {
  const dimensions = shape.flatMap((size) => bytes(1, number(1, size)));
  return [...bytes(1, text(name)), ...bytes(2, bytes(1, [...number(1, FLOAT), ...bytes(2, dimensions)]))];
}

/** A model (opset 17) of f32 inputs and outputs by name. */
export function onnxModel(
  inputs: Readonly<Record<string, readonly number[]>>,
  nodes: readonly OnnxNode[],
  outputs: Readonly<Record<string, readonly number[]>>,
): Uint8Array {
  // GraphProto: node = 1, name = 2, input = 11, output = 12. ModelProto: ir_version = 1, graph = 7, opset_import = 8 { domain = 1, version = 2 }.
  const graph = [
    ...nodes.flatMap((n) => bytes(1, node(n))),
    ...bytes(2, text('graph')),
    ...Object.entries(inputs).flatMap(([name, shape]) => bytes(11, valueInfo(name, shape))),
    ...Object.entries(outputs).flatMap(([name, shape]) => bytes(12, valueInfo(name, shape))),
  ];
  return Uint8Array.from([...number(1, 8), ...bytes(7, graph), ...bytes(8, [...bytes(1, []), ...number(2, 17)])]);
}
