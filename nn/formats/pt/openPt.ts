// Opens what torch.save wrote: a zip archive (PyTorch 1.6 and later) or the legacy file before it. All of its structure
// is checked at once; values of tensors are read when they are asked for, so that a file larger than memory can be read
// tensor by tensor.

import { byteSource, type ByteSource } from '../byteSource.ts';
import { safetensorsEntry, type SafetensorsEntry } from '../safetensors.ts';
import { refuse } from './errors.ts';
import { openLegacy } from './legacy.ts';
import { ptBytesPerElement, ptEntryDtype, PtTensor } from './tensor.ts';
import { PtObject, type PtValue } from './values.ts';
import { openZip } from './zipFile.ts';

/** An open .pt file. */
export interface PtFile {
  readonly format: 'zip' | 'legacy';
  /** What was saved. */
  readonly value: PtValue;
  /**
   * The values of a tensor in row-major order, whatever its strides.
   *
   * @throws FormatError where its record is damaged, or for a type that isn't read (complex and quantised ones)
   */
  read(tensor: PtTensor): Promise<SafetensorsEntry>;
}

/**
 * Opens a .pt file. Nothing in it is executed: it may name what constructors.ts lists, and is refused by name for
 * anything else.
 *
 * @throws FormatError naming what is wrong, or what is not allowed
 */
export async function openPt(file: Uint8Array | ArrayBuffer | Blob | ByteSource): Promise<PtFile> {
  const source = byteSource(file);
  const head = await source.read(0, Math.min(source.size, 512));
  const format = formatOf(head);
  const contents = await (format === 'zip' ? openZip(source) : openLegacy(source));
  let last: { key: string; bytes: Promise<Uint8Array> } | undefined;
  return {
    format,
    value: contents.value,
    read: async (tensor) => {
      // Tensors that share a storage mostly follow each other.
      const { storage } = tensor;
      if (last?.key !== storage.key) last = { key: storage.key, bytes: contents.storage(storage) };
      return entryOf(tensor, await last.bytes);
    },
  };
}

function formatOf(head: Uint8Array): 'zip' | 'legacy' {
  if (head.length === 0) throw refuse('the file is empty');
  if (head[0] === 0x50 && head[1] === 0x4b && head[2] === 3 && head[3] === 4) return 'zip';
  // A pickle of protocol 2 or later that begins with a long integer, the magic number.
  if (head[0] === 0x80 && head[1] >= 2 && head[1] <= 5) return 'legacy';
  const text = new TextDecoder('latin1').decode(head);
  const looks = text.slice(257, 262) === 'ustar' ? ': it is a tar file, which PyTorch wrote before 0.2' : '';
  throw refuse(`the file is neither a zip archive nor a legacy file of PyTorch${looks}`, {
    expected: 'what torch.save writes',
  });
}

/** Copies what a view shows, row by row. */
function entryOf(tensor: PtTensor, storage: Uint8Array): SafetensorsEntry {
  const { dtype, shape, strides, offset } = tensor;
  const type = ptEntryDtype(dtype);
  if (type === null)
    throw refuse(`a tensor has the type ${dtype}, which is not read`, {
      expected: 'real numbers, integers or booleans',
    });
  const size = ptBytesPerElement(dtype);
  const elements = shape.reduce((product, n) => product * n, 1);
  const bytes = new Uint8Array(elements * size);
  const info = { dtype: type, shape: [...shape], begin: 0, end: bytes.length };
  if (elements === 0) return safetensorsEntry(info, bytes);
  // The innermost dimensions that lie one after the other are one run.
  let run = 1,
    outer = shape.length;
  while (outer > 0 && (shape[outer - 1] === 1 || strides[outer - 1] === run)) run *= shape[--outer];
  const index = new Array<number>(outer).fill(0);
  let from = offset;
  for (let to = 0; to < elements; to += run) {
    bytes.set(storage.subarray(from * size, (from + run) * size), to * size);
    for (let d = outer - 1; d >= 0; d--) {
      from += strides[d];
      if (++index[d] < shape[d]) break;
      from -= strides[d] * shape[d];
      index[d] = 0;
    }
  }
  return safetensorsEntry(info, bytes);
}

const MAX_VISITED = 1_000_000;

/**
 * The tensors in a value, by where they stand: keys, indices and fields joined by dots. A state dict gives its own
 * names.
 *
 * @throws FormatError where a value holds itself, or the same tensors in too many places
 */
export function ptTensors(value: PtValue): Map<string, PtTensor> {
  const found = new Map<string, PtTensor>();
  const above = new Set<PtValue>();
  let visited = 0;
  const visit = (part: PtValue, path: string): void => {
    if (part instanceof PtTensor) {
      found.set(path, part);
      return;
    }
    const children =
      part instanceof PtObject
        ? part.fields
        : part instanceof Map
          ? part
          : Array.isArray(part)
            ? part.entries()
            : undefined;
    if (!children) return;
    if (above.has(part)) throw refuse(`what stands at ${path} holds itself`);
    above.add(part);
    for (const [key, child] of children) {
      if (++visited > MAX_VISITED || above.size > 100) throw refuse('the file nests too many values');
      visit(child, path === '' ? String(key) : `${path}.${String(key)}`);
    }
    above.delete(part);
  };
  visit(value, '');
  return found;
}
