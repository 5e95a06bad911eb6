// The only names that a .pt file may call, and what they make here. Nothing is looked up by name anywhere else: a file
// that names something else is refused. Each of them makes plain values of ours and has no other effect.

import { quoted, refuse } from './errors.ts';
import { isPtDtype, PtTensor, type PtDtype, type PtStorage } from './tensor.ts';
import { PtObject, PtType, type PtValue } from './values.ts';

/** What stands on the stack of an unpickler. */
export type Item = PtValue | Constructor | StorageType | StorageRef;

export class StorageType {
  readonly dtype: PtDtype | 'bytes';
  constructor(dtype: PtDtype | 'bytes') {
    this.dtype = dtype;
  }
}

export class StorageRef {
  readonly storage: PtStorage;
  constructor(storage: PtStorage) {
    this.storage = storage;
  }
}

/** A name that a file may call. */
export class Constructor {
  readonly name: string;
  private readonly make: ((args: Item[]) => Item) | undefined;

  constructor(name: string, make?: (args: Item[]) => Item) {
    this.name = name;
    this.make = make;
  }

  call(args: Item[]): Item {
    if (!this.make) throw refuse(`the pickle calls ${this.name}`, { expected: 'it as a type only' });
    return this.make(args);
  }

  /** @throws FormatError that names the constructor and the argument */
  wrong(args: readonly Item[], expected: string): Error {
    return refuse(`the pickle calls ${this.name} with ${args.length} arguments that do not fit`, { expected });
  }
}

const TABLE = new Map<string, Constructor | StorageType | PtType>();

function allow(name: string, make?: (args: Item[], self: Constructor) => Item): void {
  const self: Constructor = new Constructor(name, make && ((args) => make(args, self)));
  TABLE.set(name, self);
}

const isList = (value: Item | undefined): value is PtValue[] => Array.isArray(value);

function mapOf(items: Item | undefined): Map<PtValue, PtValue> | undefined {
  if (items === undefined) return new Map();
  if (items instanceof Map) return new Map(items);
  if (!isList(items) || !items.every((pair) => isList(pair) && pair.length === 2)) return undefined;
  return new Map(items as [PtValue, PtValue][]);
}

allow('collections.OrderedDict', (args, self) => {
  const made = args.length <= 1 ? mapOf(args[0]) : undefined;
  if (!made) throw self.wrong(args, 'nothing or pairs');
  return made;
});
allow('collections.defaultdict', (args, self) => {
  const made = args.length <= 2 ? mapOf(args[1]) : undefined;
  if (!made) throw self.wrong(args, 'a type, and nothing or pairs');
  return made;
});
for (const name of ['builtins.set', 'builtins.frozenset'])
  allow(name, (args, self) => {
    if (args.length > 1 || (args.length === 1 && !isList(args[0]))) throw self.wrong(args, 'nothing or a list');
    return new Set(args.length === 1 ? (args[0] as PtValue[]) : []);
  });
for (const name of ['int', 'long', 'float', 'str', 'unicode', 'bool', 'list', 'dict', 'tuple'])
  allow(`builtins.${name}`);
for (const name of ['bytes', 'bytearray'])
  allow(`builtins.${name}`, (args, self) => {
    if (args.length === 0) return new Uint8Array();
    if (args.length === 1 && args[0] instanceof Uint8Array) return args[0];
    return latin1(args, self);
  });
allow('_codecs.encode', latin1);

/** Protocol 2 writes bytes as a text of their values. */
function latin1(args: Item[], self: Constructor): Uint8Array {
  const [text, encoding] = args;
  if (args.length !== 2 || typeof text !== 'string' || !/^latin-?1$/.test(String(encoding)))
    throw self.wrong(args, 'a text and latin1');
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 255) throw self.wrong(args, 'a text of bytes');
    bytes[i] = code;
  }
  return bytes;
}

allow('argparse.Namespace', (args, self) => {
  if (args.length > 0) throw self.wrong(args, 'none');
  return new PtObject(self.name);
});
allow('torch.Size', (args, self) => {
  if (args.length !== 1 || !isList(args[0])) throw self.wrong(args, 'a tuple');
  return args[0];
});
allow('torch.device', (args, self) => {
  const [type, index] = args;
  if (typeof type !== 'string' || !(index === undefined || typeof index === 'number'))
    throw self.wrong(args, 'a name and an index');
  return new PtObject(self.name, [
    ['type', type],
    ['index', index ?? null],
  ]);
});
for (const name of ['torch.Tensor', 'torch._tensor.Tensor', 'torch.nn.parameter.Parameter']) allow(name);

const STORAGES: Readonly<Record<string, PtDtype>> = {
  Double: 'float64',
  Float: 'float32',
  Half: 'float16',
  BFloat16: 'bfloat16',
  Long: 'int64',
  Int: 'int32',
  Short: 'int16',
  Char: 'int8',
  Byte: 'uint8',
  Bool: 'bool',
  ComplexFloat: 'complex64',
  ComplexDouble: 'complex128',
  QUInt8: 'quint8',
  QInt8: 'qint8',
  QInt32: 'qint32',
};
for (const [name, dtype] of Object.entries(STORAGES)) TABLE.set(`torch.${name}Storage`, new StorageType(dtype));
for (const name of ['torch.UntypedStorage', 'torch.storage.UntypedStorage']) TABLE.set(name, new StorageType('bytes'));

/** Short names of types beside those that are their own. */
const DTYPE_NAMES: Readonly<Record<string, PtDtype>> = {
  half: 'float16',
  float: 'float32',
  double: 'float64',
  long: 'int64',
  int: 'int32',
};

function view(self: Constructor, args: Item[], dtype: PtDtype | undefined, requiresGrad: boolean): PtTensor {
  const [ref, offset, shape, strides] = args;
  if (!(ref instanceof StorageRef) || !isList(shape) || !isList(strides))
    throw self.wrong(args, 'a storage, an offset, a shape and strides');
  const { storage } = ref;
  const type = dtype ?? (storage.dtype === 'bytes' ? 'uint8' : storage.dtype);
  return new PtTensor({
    dtype: type,
    shape: shape as number[],
    strides: strides as number[],
    offset: offset as number,
    storage,
    requiresGrad,
  });
}
allow('torch._utils._rebuild_tensor', (args, self) => view(self, args, undefined, false));
allow('torch._utils._rebuild_tensor_v2', (args, self) => view(self, args, undefined, args[4] === true));
allow('torch._utils._rebuild_tensor_v3', (args, self) => {
  const type = args[6];
  if (!(type instanceof PtType) || type.dtype === undefined) throw self.wrong(args, 'a type as the seventh');
  return view(self, args, type.dtype, args[4] === true);
});
for (const name of ['torch._utils._rebuild_parameter', 'torch._utils._rebuild_parameter_with_state'])
  allow(name, (args, self) => {
    const [tensor, requiresGrad] = args;
    if (!(tensor instanceof PtTensor)) throw self.wrong(args, 'a tensor');
    return new PtTensor({ ...tensor, requiresGrad: requiresGrad === true });
  });
allow('torch._tensor._rebuild_from_type_v2', (args, self) => {
  const [make, , inner] = args;
  if (!(make instanceof Constructor) || !/^torch\._utils\._rebuild_/.test(make.name) || !isList(inner))
    throw self.wrong(args, 'a constructor of tensors and its arguments');
  return make.call(inner);
});

/** Modules that Python 2 called otherwise, as protocol 2 writes them. */
const MODULES: Readonly<Record<string, string>> = { __builtin__: 'builtins' };

/**
 * What a file means by a name.
 *
 * @throws FormatError for any name that isn't on the list
 */
export function constructorOf(module: string, name: string): Constructor | StorageType | PtType {
  const full = `${MODULES[module] ?? module}.${name}`;
  const known = TABLE.get(full);
  if (known) return known;
  if (module === 'torch') {
    const dtype = DTYPE_NAMES[name] ?? name;
    if (isPtDtype(dtype)) return new PtType(full, dtype);
  }
  throw refuse(`the pickle names ${quoted(full)}, which is not on the list of what a weight file may hold`, {
    expected: 'tensors, containers, numbers and texts',
    remedy: 'save the state dict alone with torch.save, or as safetensors',
  });
}
