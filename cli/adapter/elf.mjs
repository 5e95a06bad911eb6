// Reads from an ELF file which shared libraries it asks for: enough to know which files of a package a driver really needs.
// 64-bit little-endian, which is what every platform of the npm package webgpu on Linux is.

import { openSync, readSync, closeSync, fstatSync } from 'node:fs';

const PT_LOAD = 1,
  PT_DYNAMIC = 2;
const DT_NULL = 0,
  DT_NEEDED = 1,
  DT_STRTAB = 5,
  DT_SONAME = 14;

/**
 * The dynamic section of a shared library.
 * @param {string} file
 * @returns {{ soname: string | undefined, needed: string[] } | undefined} undefined when `file` is no 64-bit shared library
 */
export function readDynamic(file) {
  const fd = openSync(file, 'r');
  try {
    const size = fstatSync(fd).size;
    const read = (position, length) => {
      const buffer = Buffer.alloc(Math.max(0, Math.min(length, size - position)));
      readSync(fd, buffer, 0, buffer.length, position);
      return buffer;
    };
    const header = read(0, 64);
    if (header.length < 64 || header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1)
      return undefined;

    const entrySize = header.readUInt16LE(54),
      entries = header.readUInt16LE(56);
    const table = read(Number(header.readBigUInt64LE(32)), entrySize * entries);
    const segments = Array.from({ length: entries }, (_, i) => {
      const at = i * entrySize;
      return {
        type: table.readUInt32LE(at),
        offset: Number(table.readBigUInt64LE(at + 8)),
        address: Number(table.readBigUInt64LE(at + 16)),
        size: Number(table.readBigUInt64LE(at + 32)),
      };
    });
    const dynamic = segments.find((segment) => segment.type === PT_DYNAMIC);
    if (dynamic === undefined) return undefined;

    const bytes = read(dynamic.offset, dynamic.size);
    const tags = [];
    for (let at = 0; at + 16 <= bytes.length; at += 16) {
      const tag = Number(bytes.readBigInt64LE(at));
      if (tag === DT_NULL) break;
      tags.push({ tag, value: Number(bytes.readBigUInt64LE(at + 8)) });
    }
    const stringsAddress = tags.find(({ tag }) => tag === DT_STRTAB)?.value;
    const home = segments.find(
      (s) => s.type === PT_LOAD && stringsAddress >= s.address && stringsAddress < s.address + s.size,
    );
    if (home === undefined) return undefined;
    const strings = home.offset + stringsAddress - home.address;
    const text = ({ value }) => {
      const name = read(strings + value, 256);
      return name.toString('latin1', 0, name.indexOf(0));
    };
    const soname = tags.find(({ tag }) => tag === DT_SONAME);
    return { soname: soname && text(soname), needed: tags.filter(({ tag }) => tag === DT_NEEDED).map(text) };
  } finally {
    closeSync(fd);
  }
}

/**
 * The libraries that `roots` need, transitively, out of `available`; each after those that it needs itself.
 * Names that `available` lacks are left to the system (the C library and its kin).
 * @param {string[]} roots file names
 * @param {Map<string, string>} available path by file name
 * @returns {Map<string, string>} path by the name it is asked for, in load order, the roots among them
 */
export function loadOrder(roots, available) {
  const order = new Map();
  const seen = new Set();
  const visit = (name) => {
    const file = available.get(name);
    if (file === undefined || seen.has(file)) return;
    seen.add(file);
    for (const needed of readDynamic(file)?.needed ?? []) visit(needed);
    order.set(name, file);
  };
  for (const root of roots) visit(root);
  return order;
}
