// Checkpoint files of the reference set that the library itself reads: safetensors of every dtype, and malformed ones.

import { readFileSync, readdirSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { FormatError } from '../../core/errors.ts';
import { readSafetensors, writeSafetensors, type SafetensorsEntry } from '../../nn/formats/safetensors.ts';
import { toFloat32 } from '../../nn/formats/safetensorsFloat.ts';
import { family, goldenPath, hasGolden, loadGolden, loadSidecar } from './support.ts';

interface DtypesSidecar {
  tensors: Record<string, { dtype: string; shape?: number[]; values: (number | string)[] }>;
  /** An nn.Parameter; the sidecar lists its values only. */
  param?: { values: number[] };
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
};

family(
  'checkpoint/malformed',
  (test) => {
    for (const file of readdirSync(goldenPath('checkpoint/malformed'))
      .filter((name) => name.endsWith('.safetensors'))
      .sort()) {
      const name = file.replace('.safetensors', '');
      const bytes = readFileSync(goldenPath(`checkpoint/malformed/${file}`));
      if (name === 'st_proto') {
        test(`${name}: names of Object.prototype are ordinary entries`, () => {
          const { tensors } = readSafetensors(bytes);
          assert.equal([...tensors.keys()], ['__proto__', 'constructor']);
          assert.equal(tensors.get('__proto__')!.shape, [4]);
          assert.is(Object.getPrototypeOf({}), Object.prototype);
          assert.is(({} as Record<string, unknown>).dtype, undefined);
        });
      } else {
        test(`${name} is refused`, () => {
          assert.throws(
            () => readSafetensors(bytes),
            (error: Error) =>
              error instanceof FormatError &&
              error.message.startsWith('[readSafetensors] ') &&
              (NAMED[name]?.test(error.message) ?? true),
          );
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
