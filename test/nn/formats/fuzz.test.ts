// A thousand damaged files of every format: each is refused with our own error or read with the right values, and none
// takes long.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openPt, ptTensors } from '../../../nn/formats/pt/index.ts';
import {
  readSafetensors,
  readSafetensorsHeader,
  safetensorsHeaderBytes,
  type SafetensorsEntry,
} from '../../../nn/formats/safetensors.ts';
import { officialCheckpoint } from '../../../models/dis/officialCheckpoint.ts';
import { officialPath } from '../../models/officialRun.ts';
import { fuzz, randomIntegers } from './mutate.ts';

const COUNT = 1000;
const fixture = (name: string): Uint8Array =>
  readFileSync(fileURLToPath(new URL(`../../fixtures/checkpoint/${name}`, import.meta.url)));

async function readPt(file: Uint8Array): Promise<Map<string, SafetensorsEntry>> {
  const { value, read } = await openPt(file);
  const entries = new Map<string, SafetensorsEntry>();
  for (const [name, tensor] of ptTensors(value)) entries.set(name, await read(tensor));
  return entries;
}

function assertWhole(entries: ReadonlyMap<string, SafetensorsEntry>): void {
  for (const [name, { shape, data }] of entries)
    assert.is(
      data.length,
      shape.reduce((product, n) => product * n, 1),
      name,
    );
}

const bytesOf = ({ data }: SafetensorsEntry): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

// Every record of a zip archive has a checksum, so that what is read is what was written.
for (const name of ['dtypes_zip.pt', 'proto4.pt', 'handmade_deflated.pt'])
  test(`${name}: refused, or the same tensors`, async () => {
    const file = fixture(name);
    const whole = await readPt(file);
    const ends = await fuzz(file, COUNT, 1, async (damaged) => {
      const entries = await readPt(damaged);
      assert.equal([...entries.keys()], [...whole.keys()]);
      for (const [key, entry] of entries) {
        const { dtype, shape } = whole.get(key)!;
        assert.equal({ dtype: entry.dtype, shape: entry.shape }, { dtype, shape });
        assert.equal(bytesOf(entry), bytesOf(whole.get(key)!), key);
      }
    });
    assert.ok(ends.refused > 0 && ends.refused + ends.read === COUNT);
  });

// These formats have none: a changed value is a value. What is read has the size that it says.
test('dtypes_legacy.pt: refused, or whole tensors', async () => {
  const ends = await fuzz(fixture('dtypes_legacy.pt'), COUNT, 2, async (damaged) => assertWhole(await readPt(damaged)));
  assert.ok(ends.refused > COUNT / 2, `${ends.refused} of ${COUNT} refused`);
});

test('dtypes.safetensors: refused, or whole tensors, which are the bytes of their places', async () => {
  const file = fixture('dtypes.safetensors');
  const dataStart = safetensorsHeaderBytes(file);
  const { tensors: places } = readSafetensorsHeader(file);
  let same = 0;
  const ends = await fuzz(file, COUNT, 3, (damaged) => {
    const { tensors } = readSafetensors(damaged);
    assertWhole(tensors);
    if (Buffer.compare(damaged.subarray(0, dataStart), file.subarray(0, dataStart)) !== 0) return;
    same++;
    assert.equal([...tensors.keys()], [...places.keys()]);
    for (const [key, { dtype, shape, begin, end }] of places) {
      const entry = tensors.get(key)!;
      assert.equal({ dtype: entry.dtype, shape: entry.shape }, { dtype, shape }, key);
      assert.equal(bytesOf(entry), Uint8Array.from(damaged.subarray(dataStart + begin, dataStart + end)), key);
    }
  });
  assert.ok(same > 0);
  assert.ok(ends.refused > COUNT / 2, `${ends.refused} of ${COUNT} refused`);
});

// The pickle is a tenth of such a file: mutations are of it alone.
for (const name of ['zip.pt', 'legacy.pt'])
  test(`official ${name}: refused, or a checkpoint of the same model`, async () => {
    const file = readFileSync(officialPath(name));
    const whole = await officialCheckpoint(await openPt(file));
    const begin = Math.max(file.indexOf('data.pkl'), 0);
    const pickle = file.subarray(begin, begin + 24_000);
    const random = randomIntegers(5);
    const ends = await fuzz(pickle, COUNT, 4, async (damaged) => {
      // A zip file's directory says where its parts are: there the length stays.
      const part = name === 'zip.pt' ? fitted(damaged, pickle.length, random) : damaged;
      const opened = await openPt(Buffer.concat([file.subarray(0, begin), part, file.subarray(begin + pickle.length)]));
      const { config, model } = await officialCheckpoint(opened);
      assert.equal([...model.keys()].length, [...whole.model.keys()].length);
      assert.equal(config, whole.config);
    });
    assert.ok(ends.refused > COUNT / 2, `${ends.refused} of ${COUNT} refused`);
  });

/** `bytes` cut or filled to a length. */
function fitted(bytes: Uint8Array, length: number, random: (n: number) => number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => bytes[i] ?? random(256));
}

test('a pickle that would take gigabytes is refused', async () => {
  // The pickle of a legacy file follows its magic number, its version and the machine that wrote it.
  const file = fixture('dtypes_legacy.pt');
  const text = new TextDecoder('latin1').decode(file);
  const head = file.slice(0, text.indexOf('.', text.indexOf('type_sizes')) + 1);
  const pickle = (bytes: Uint8Array): Uint8Array => {
    const made = new Uint8Array(head.length + bytes.length);
    made.set(head);
    made.set(bytes, head.length);
    return made;
  };
  const bytes = (...codes: number[]): Uint8Array => Uint8Array.from(codes);
  const many = (code: string, count: number): Uint8Array => new Uint8Array(count).fill(code.charCodeAt(0));
  const cases: [Uint8Array, RegExp][] = [
    [many('}', 30e6), /more than 400000 containers/],
    [many('N', 30e6), /more than 2000000 steps/],
    [many('(', 30e6), /more than 2000000 steps/],
    // A list that holds itself is no tree of tensors; PROTO 2, EMPTY_LIST, BINPUT 0, BINGET 0, APPEND, STOP.
    [bytes(0x80, 2, 0x5d, 0x71, 0, 0x68, 0, 0x61, 0x2e, 0x80, 2, 0x5d, 0x2e), /holds itself/],
    // An integer of 2 GB: PROTO 2, LONG4.
    [bytes(0x80, 2, 0x8b, 0xff, 0xff, 0xff, 0x7f), /integer of 2147483647 bytes/],
  ];
  for (const [given, pattern] of cases) {
    const [cpu, peak] = [process.cpuUsage(), process.resourceUsage().maxRSS];
    const error = await readPt(pickle(given)).then(
      () => undefined,
      (reason: Error) => reason,
    );
    assert.match(error?.message ?? 'read', pattern);
    const { user, system } = process.cpuUsage(cpu);
    assert.ok(user + system < 2e6 && process.resourceUsage().maxRSS - peak < 300 * 1024, String(pattern));
  }
});

test.run();
