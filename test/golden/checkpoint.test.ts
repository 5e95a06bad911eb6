// Checkpoint files of the reference set: safetensors and .pt files of every dtype, whole checkpoints, and malformed
// ones.

import { readFileSync, readdirSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { FormatError } from '../../core/errors.ts';
import { openPt, PtObject, ptTensors, type PtFile, type PtValue } from '../../nn/formats/pt/index.ts';
import { readSafetensors, type SafetensorsEntry } from '../../nn/formats/safetensors.ts';
import { writeSafetensors } from '../../nn/formats/safetensorsWrite.ts';
import { toFloat32 } from '../../nn/formats/safetensorsFloat.ts';
import { family, goldenPath, hasGolden, loadGolden, loadSidecar, type Golden } from './support.ts';

interface Listed {
  dtype: string;
  shape?: number[];
  stride?: number[];
  storage_offset?: number;
  values: (number | string)[];
}

interface DtypesSidecar {
  tensors: Record<string, Listed>;
  /** An nn.Parameter; the sidecar lists its values only. */
  param?: { values: number[] };
  /** Beside the tensors, in words. */
  other_keys: Record<string, string>;
}

const TORCH_DTYPES: Readonly<Record<string, string>> = {
  float64: 'F64',
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  int64: 'I64',
  int32: 'I32',
  int16: 'I16',
  int8: 'I8',
  uint8: 'U8',
  bool: 'BOOL',
};

/** Values as the sidecar writes them: numbers at their full precision, 'inf', '-inf', 'nan'. */
function values(entry: SafetensorsEntry): (number | string)[] {
  const exact = entry.dtype === 'F64' || entry.dtype === 'I64' || entry.dtype === 'U64';
  return Array.from((exact ? entry.data : toFloat32(entry)) as ArrayLike<number | bigint>, Number).map((value) =>
    Number.isNaN(value) ? 'nan' : value === Infinity ? 'inf' : value === -Infinity ? '-inf' : value,
  );
}

family(
  'checkpoint/dtypes',
  (test) => {
    test('every tensor has the dtype, shape and values that the sidecar lists', () => {
      const { tensors: listed, param } = loadSidecar<DtypesSidecar>('checkpoint/dtypes');
      if (param) listed.param = { dtype: 'float32', values: param.values };
      const tensors = loadGolden('checkpoint/dtypes');
      assert.ok(tensors.size > 0);
      for (const [name, entry] of tensors) {
        const expected = listed[name];
        assert.ok(expected, `${name} is not in the sidecar`);
        assert.is(entry.dtype, TORCH_DTYPES[expected.dtype], name);
        if (expected.shape) assert.equal(entry.shape, expected.shape, name);
        assert.equal(values(entry), expected.values, name);
      }
    });

    test('writing what was read gives the same tensors again', () => {
      const { tensors, metadata } = readSafetensors(readFileSync(goldenPath('checkpoint/dtypes.safetensors')));
      const again = readSafetensors(writeSafetensors(tensors, metadata));
      assert.equal([...again.metadata], [...metadata]);
      for (const [name, entry] of tensors) {
        const copy = again.tensors.get(name)!;
        assert.is(copy.dtype, entry.dtype);
        assert.equal(copy.shape, entry.shape);
        assert.equal(
          new Uint8Array(copy.data.buffer, copy.data.byteOffset, copy.data.byteLength),
          new Uint8Array(entry.data.buffer, entry.data.byteOffset, entry.data.byteLength),
          name,
        );
      }
    });
  },
  ['checkpoint/dtypes.safetensors', 'checkpoint/dtypes.json'],
);

/** Whatever type a file has beside tensors; fails for anything but a dictionary. */
function dictionary(value: PtValue | undefined): Map<PtValue, PtValue> {
  assert.instance(value, Map);
  return value as Map<PtValue, PtValue>;
}

const openGolden = (name: string): Promise<PtFile> => openPt(readFileSync(goldenPath(`checkpoint/${name}.pt`)));

for (const name of ['dtypes_zip', 'dtypes_legacy']) {
  family(
    `checkpoint/${name}`,
    (test) => {
      const { tensors: listed, param, other_keys } = loadSidecar<DtypesSidecar>('checkpoint/dtypes');
      test('every tensor has the dtype, shape, strides, offset and values that the sidecar lists', async () => {
        const file = await openGolden(name);
        const root = dictionary(file.value);
        const tensors = ptTensors(root.get('tensors')!);
        assert.equal([...tensors.keys()].sort(), Object.keys(listed).sort());
        for (const [key, tensor] of tensors) {
          const expected = listed[key];
          assert.is(tensor.dtype, expected.dtype, key);
          assert.equal([tensor.shape, tensor.strides], [expected.shape, expected.stride], key);
          assert.is(tensor.offset, expected.storage_offset, key);
          assert.equal(values(await file.read(tensor)), expected.values, key);
        }
        if (param) assert.equal(values(await file.read(ptTensors(root).get('param')!)), param.values);
      });

      test('what stands beside the tensors is there', async () => {
        const { note: _, ...others } = other_keys;
        const found = [...dictionary((await openGolden(name)).value).keys()];
        assert.equal(found.sort(), ['tensors', ...(param ? ['param'] : []), ...Object.keys(others)].sort());
      });
    },
    [`checkpoint/${name}.pt`, 'checkpoint/dtypes.json'],
  );
}

/**
 * Small files whose one tensor the sidecar describes in words: `2x2 tensor [[1,2],[3,4]] …`, `tensor f32 alone`,
 * `OrderedDict(w=2x2)`.
 */
family(
  'checkpoint/small files',
  (test) => {
    const { files, tensors: listed } = loadSidecar<DtypesSidecar & { files: Record<string, string> }>(
      'checkpoint/dtypes',
    );
    let before = '';
    for (const [name, text] of Object.entries(files)) {
      const words = text.startsWith('the same') ? before : text;
      before = words;
      const size = /(\d+(?:x\d+)*)/.exec(words.replace(/f\d+/, ''))?.[1].split('x').map(Number);
      const written = /(\[\[.*\]\])/.exec(words)?.[1];
      const same = Object.keys(listed).find((key) => new RegExp(`\\btensor ${key}\\b`).test(words));
      test(`${name}: ${text}`, async () => {
        const file = await openGolden(name.replace('.pt', ''));
        const [[, tensor], ...others] = ptTensors(file.value);
        assert.is(others.length, 0);
        const entry = await file.read(tensor);
        if (same) assert.equal([tensor.shape, values(entry)], [listed[same].shape, listed[same].values]);
        else assert.equal(tensor.shape, size);
        if (written) assert.equal(values(entry), (JSON.parse(written) as number[][]).flat());
      });
    }
  },
  ['checkpoint/dtypes.json', 'checkpoint/bare_tensor.pt', 'checkpoint/handmade_ok.pt'],
);

for (const name of ['ckpt_zip', 'ckpt_legacy']) {
  family(
    `checkpoint/${name}`,
    (test) => {
      const sidecar = loadSidecar<{ args: Record<string, unknown>; keys: string[] }>('checkpoint/ckpt');
      test('model, average, optimizer and arguments are those that were saved', async () => {
        const file = await openGolden(name);
        const root = dictionary(file.value);
        assert.equal([...root.keys()], sidecar.keys);
        for (const part of ['model', 'ema']) {
          const expected: Golden = loadGolden(`checkpoint/ckpt_${part}`);
          const tensors = ptTensors(root.get(part)!);
          assert.equal([...tensors.keys()].sort(), [...expected.keys()].sort(), part);
          for (const [key, tensor] of tensors) {
            const { dtype, shape, data } = expected.get(key)!;
            const entry = await file.read(tensor);
            assert.equal({ dtype: entry.dtype, shape: entry.shape }, { dtype, shape }, key);
            assert.equal([...(entry.data as Float32Array)], [...(data as Float32Array)], key);
          }
        }
        const args = root.get('args');
        assert.instance(args, PtObject);
        assert.equal(Object.fromEntries((args as PtObject).fields), sidecar.args);
        const state = dictionary(dictionary(root.get('opt')).get('state'));
        assert.ok(state.size > 0 && [...state.values()].every((moments) => dictionary(moments).has('exp_avg_sq')));
      });
    },
    [
      'checkpoint/ckpt.json',
      'checkpoint/ckpt_model.safetensors',
      'checkpoint/ckpt_ema.safetensors',
      `checkpoint/${name}.pt`,
    ],
  );
}

/** What each refusal must name. A file that is not listed must be refused all the same. */
const NAMED: Readonly<Record<string, RegExp>> = {
  st_empty: / 0 bytes/,
  st_short_header_len: / [1-7] bytes/,
  st_truncated_data: /the file is cut/,
  st_truncated_header: /the file has \d+ bytes/,
  st_header_len_too_big: /header ends at byte \d+/,
  st_header_len_huge: /header length is \d{17,}/,
  st_header_len_too_small: /not valid JSON/,
  st_not_json: /not valid JSON/,
  st_json_array: /\[.*\], expected a JSON object/,
  st_invalid_utf8: /not UTF-8/,
  st_offset_past_end: /data_offsets|the file is cut/,
  st_offset_reversed: /begin <= end/,
  st_offset_negative: /data_offsets \[.*-\d+.*\]/,
  st_overlap: /overlaps/,
  st_hole: /belong to no tensor/,
  st_trailing: /belong to none/,
  st_size_mismatch: /needs \d+ bytes/,
  st_unknown_dtype: /dtype "\w+"/,
  st_negative_shape: /\[.*-\d+.*\]/,
  st_shape_overflow: /overflows/,
  st_fraction_shape: /\[.*\d\.\d.*\]/,
  st_missing_field: /has no \w+/,
  st_duplicate_key: /repeated key/,
  st_metadata_not_string: /expected a string/,
  zip_truncated: /no end-of-directory record; the file is cut/,
  zip_tail_cut: /no end-of-directory record; the file is cut/,
  legacy_truncated: /the file is cut/,
  legacy_truncated_pickle: /the pickle ends at byte \d+, in the middle/,
  empty: /the file is empty/,
  random: /neither a zip archive nor a legacy file/,
  global_posix_getcwd: /names "posix.getcwd"/,
  global_posix_getcwd_legacy: /names "posix.getcwd"/,
  global_builtins_print: /names "builtins.print"/,
  global_builtins_eval: /names "builtins.eval"/,
  global_builtins_getattr: /names "builtins.getattr"/,
  global_stack_global_proto4: /names "builtins.print"/,
  opcode_inst: /opcode INST/,
  opcode_obj: /names "builtins.print"|opcode OBJ/,
  opcode_ext1: /opcode EXT1/,
  memo_missing: /memo entry \d+, which it has not stored/,
  marks_only: /stops with 0 values and \d+ marks/,
  no_stop: /the pickle ends at byte/,
  huge_string: /\d+ bytes are missing/,
  tensor_out_of_bounds: /reaches element \d+ of storage/,
  tensor_offset_out_of_bounds: /reaches element \d+ of storage/,
  tensor_negative_stride: /strides \(.*-\d.*non-negative/,
  tensor_negative_shape: /shape \(.*-\d.*non-negative/,
  storage_too_short: /but its record \d+ bytes/,
  storage_missing: /is not in the archive/,
  tensor_overflow: /elements|overflows/,
  zip_bad_crc: /CRC-32/,
};

/** Reads all of a file, by what its name ends in. */
async function readAll(file: string): Promise<Golden> {
  const bytes = readFileSync(goldenPath(`checkpoint/malformed/${file}`));
  if (file.endsWith('.safetensors')) return readSafetensors(bytes).tensors;
  const { value, read } = await openPt(bytes);
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, tensor] of ptTensors(value)) entries.set(name, await read(tensor));
  return entries;
}

family(
  'checkpoint/malformed',
  (test) => {
    const { files } = loadSidecar<{ files: Record<string, string> }>('checkpoint/malformed');
    for (const file of readdirSync(goldenPath('checkpoint/malformed')).sort()) {
      const name = file.replace(/\.[^.]+$/, '');
      const words = files[file] ?? 'not listed';
      if (/either rejected or/.test(words)) {
        test(`${name}: ${words}`, async () => {
          const tensors = await readAll(file);
          assert.ok(tensors.size > 0);
          assert.is(Object.getPrototypeOf({}), Object.prototype);
          assert.is(({} as Record<string, unknown>).dtype, undefined);
        });
      } else {
        test(`${name} is refused: ${words}`, async () => {
          const error = await readAll(file).then(
            () => undefined,
            (reason: unknown) => reason,
          );
          assert.instance(error, FormatError);
          assert.match((error as Error).message, /^\[(readSafetensors|openPt)\] /);
          assert.match((error as Error).message, NAMED[name] ?? /./);
        });
      }
    }
  },
  ['checkpoint/malformed', 'checkpoint/malformed.json'],
);

for (const name of ['checkpoint/ckpt_ema', 'checkpoint/ckpt_model']) {
  family(name, (test) => {
    test('holds float32 tensors and survives a round trip', () => {
      const tensors = loadGolden(name);
      const again = readSafetensors(writeSafetensors(tensors)).tensors;
      assert.equal([...again.keys()], [...tensors.keys()]);
      for (const [key, entry] of tensors) {
        assert.is(entry.dtype, 'F32');
        assert.equal(again.get(key), entry, key);
      }
    });
    if (!hasGolden('train/trajectory.safetensors')) return;
    test('is the trained state of the trajectory', () => {
      const trajectory = loadGolden('train/trajectory');
      for (const [key, entry] of loadGolden(name)) {
        const reference = trajectory.get(`${name.endsWith('ema') ? 'ema' : 'final'}.${key}`);
        if (reference) assert.equal(entry, reference, key);
      }
    });
  });
}
