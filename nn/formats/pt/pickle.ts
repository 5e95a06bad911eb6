// Runs the pickle of a .pt file: protocols 2 to 5, without anything that could name code but the list in
// constructors.ts. A pickle is a program for a stack machine, so that its cost is bounded by the number of its steps,
// which is bounded here. Source: Python's pickletools.py.

import { Constructor, constructorOf, StorageRef, StorageType, type Item } from './constructors.ts';
import { quoted, refuse } from './errors.ts';
import { PtTensor } from './tensor.ts';
import { PtObject, type PtValue } from './values.ts';

/** Longest pickle, and most steps and containers in one: about 50,000 tensors. */
export const MAX_PICKLE_BYTES = 32 * 2 ** 20;
const MAX_STEPS = 2_000_000,
  MAX_CONTAINERS = 400_000,
  MAX_INTEGER_BYTES = 256;

/** Opcodes that are known and refused, for the message. */
const REFUSED: Readonly<Record<string, string>> = {
  i: 'INST',
  o: 'OBJ',
  '\x82': 'EXT1',
  '\x83': 'EXT2',
  '\x84': 'EXT4',
  '\x92': 'NEWOBJ_EX',
  P: 'PERSID',
  I: 'INT',
  L: 'LONG',
  F: 'FLOAT',
  V: 'UNICODE',
  g: 'GET',
  p: 'PUT',
  d: 'DICT',
  l: 'LIST',
  '\x97': 'NEXT_BUFFER',
  '\x98': 'READONLY_BUFFER',
};

export interface Pickle {
  readonly value: PtValue;
  /** Offset of the byte after the pickle. */
  readonly end: number;
}

/**
 * Runs one pickle.
 *
 * @param load gives the storage that a file refers to by a tuple ('storage', type, key, location, length, …)
 * @throws FormatError for whatever isn't a pickle of tensors, containers, numbers and texts
 */
export function readPickle(bytes: Uint8Array, begin: number, load: (reference: Item[]) => StorageRef): Pickle {
  return new Machine(bytes, begin, load).run();
}

class Machine {
  private at: number;
  private readonly bytes: Uint8Array;
  private readonly data: DataView;
  private readonly load: (reference: Item[]) => StorageRef;
  private stack: Item[] = [];
  /** Heights of the stack at the marks. */
  private readonly marks: number[] = [];
  private readonly memo = new Map<number, Item>();
  private containers = 0;

  constructor(bytes: Uint8Array, begin: number, load: (reference: Item[]) => StorageRef) {
    this.bytes = bytes;
    this.data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = begin;
    this.load = load;
  }

  run(): Pickle {
    for (let step = 0; step < MAX_STEPS; step++) {
      const code = String.fromCharCode(this.bytes[this.take(1)]);
      if (code === '.') return { value: this.result(), end: this.at };
      this.step(code);
    }
    throw refuse(`the pickle takes more than ${MAX_STEPS} steps`);
  }

  private step(code: string): void {
    switch (code) {
      case '\x80': {
        const protocol = this.bytes[this.take(1)];
        if (protocol < 2 || protocol > 5) throw refuse(`the pickle has protocol ${protocol}`, { expected: '2 to 5' });
        return;
      }
      case '\x95': // FRAME: what follows is a stretch of the same pickle.
        this.length64();
        return;
      case '(':
        this.marks.push(this.stack.length);
        return;
      case '0':
        this.pop();
        return;
      case '1':
        this.popMark();
        return;
      case '2':
        this.push(this.top());
        return;
      case 'N':
        return this.push(null);
      case '\x88':
        return this.push(true);
      case '\x89':
        return this.push(false);
      case 'J':
        return this.push(this.data.getInt32(this.take(4), true));
      case 'K':
        return this.push(this.bytes[this.take(1)]);
      case 'M':
        return this.push(this.data.getUint16(this.take(2), true));
      case '\x8a':
        return this.push(this.integer(this.bytes[this.take(1)]));
      case '\x8b':
        return this.push(this.integer(this.data.getInt32(this.take(4), true)));
      case 'G':
        return this.push(this.data.getFloat64(this.take(8), false));
      case '\x8c':
        return this.push(this.text(this.bytes[this.take(1)]));
      case 'X':
        return this.push(this.text(this.data.getUint32(this.take(4), true)));
      case '\x8d':
        return this.push(this.text(this.length64()));
      case 'U':
        return this.push(this.latin1(this.bytes[this.take(1)]));
      case 'T':
        return this.push(this.latin1(this.data.getUint32(this.take(4), true)));
      case 'S': // A text in quotes, of protocol 0.
        return this.push(this.line().replace(/^(['"])(.*)\1$/s, '$2'));
      case 'C':
        return this.push(this.raw(this.bytes[this.take(1)]));
      case 'B':
        return this.push(this.raw(this.data.getUint32(this.take(4), true)));
      case '\x8e':
      case '\x96':
        return this.push(this.raw(this.length64()));
      case ']':
        return this.pushContainer([]);
      case ')':
        return this.pushContainer([]);
      case '\x85':
      case '\x86':
      case '\x87':
        return this.pushContainer(this.popMany(code.charCodeAt(0) - 0x84) as PtValue[]);
      case 't':
        return this.pushContainer(this.popMark() as PtValue[]);
      case '}':
        return this.pushContainer(new Map());
      case '\x8f':
        return this.pushContainer(new Set());
      case '\x91':
        return this.pushContainer(new Set(this.popMark() as PtValue[]));
      case 'a':
        return this.append([this.pop()]);
      case 'e':
        return this.append(this.popMark());
      case 's':
        return this.setItems(this.popMany(2));
      case 'u':
        return this.setItems(this.popMark());
      case '\x90':
        return this.addItems(this.popMark());
      case 'c':
        return this.push(constructorOf(this.line(), this.line()));
      case '\x93': {
        const [module, name] = this.popMany(2);
        if (typeof module !== 'string' || typeof name !== 'string')
          throw refuse('STACK_GLOBAL takes what is no name', { expected: 'two texts' });
        return this.push(constructorOf(module, name));
      }
      case 'R':
      case '\x81': {
        const [make, args] = this.popMany(2);
        if (!(make instanceof Constructor) || !Array.isArray(args))
          throw refuse(`${code === 'R' ? 'REDUCE' : 'NEWOBJ'} calls ${kindOf(make)} with ${kindOf(args)}`, {
            expected: 'a constructor and a tuple',
          });
        return this.pushContainer(make.call(args));
      }
      case 'b':
        return this.build(this.pop());
      case 'Q': {
        const reference = this.pop();
        if (!Array.isArray(reference))
          throw refuse(`a persistent id is ${kindOf(reference)}`, { expected: 'the tuple of a storage' });
        return this.push(this.load(reference));
      }
      case 'h':
        return this.get(this.bytes[this.take(1)]);
      case 'j':
        return this.get(this.data.getUint32(this.take(4), true));
      case 'q':
        return this.put(this.bytes[this.take(1)]);
      case 'r':
        return this.put(this.data.getUint32(this.take(4), true));
      case '\x94':
        return this.put(this.memo.size);
      default: {
        const byte = code.charCodeAt(0).toString(16).padStart(2, '0');
        throw refuse(
          code in REFUSED
            ? `the pickle has the opcode ${REFUSED[code]}, which is not run`
            : `byte 0x${byte} of the pickle is no opcode; it is damaged, or no pickle`,
          { expected: 'opcodes of protocol 2 to 5 that make tensors, containers, numbers and texts' },
        );
      }
    }
  }

  /** Moves over `count` bytes, and tells where they begin. */
  private take(count: number): number {
    const begin = this.at;
    if (count > this.bytes.length - begin)
      throw refuse(
        `the pickle ends at byte ${this.bytes.length}, in the middle: ${count} bytes are missing from ${begin} on`,
      );
    this.at = begin + count;
    return begin;
  }

  private length64(): number {
    const length = this.data.getBigUint64(this.take(8), true);
    if (length > BigInt(this.bytes.length)) throw refuse(`the pickle announces ${length} bytes that are not there`);
    return Number(length);
  }

  private raw(length: number): Uint8Array {
    const begin = this.take(length);
    return new Uint8Array(this.bytes.subarray(begin, this.at));
  }

  private text(length: number): string {
    const begin = this.take(length);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.bytes.subarray(begin, this.at));
    } catch {
      throw refuse(`the text at byte ${begin} of the pickle is not UTF-8`);
    }
  }

  private latin1(length: number): string {
    const begin = this.take(length);
    let text = '';
    for (let i = begin; i < this.at; i++) text += String.fromCharCode(this.bytes[i]);
    return text;
  }

  private line(): string {
    const end = this.bytes.indexOf(10, this.at);
    if (end < 0) throw refuse(`the name at byte ${this.at} of the pickle has no end`);
    const text = this.text(end - this.at);
    this.at = end + 1;
    return text;
  }

  /** Two's complement, least byte first. */
  private integer(length: number): number | bigint {
    if (length < 0 || length > MAX_INTEGER_BYTES)
      throw refuse(`the pickle has an integer of ${length} bytes`, { expected: `at most ${MAX_INTEGER_BYTES}` });
    const begin = this.take(length);
    let value = 0n;
    for (let i = this.at - 1; i >= begin; i--) value = (value << 8n) | BigInt(this.bytes[i]);
    if (length > 0 && this.bytes[this.at - 1] & 0x80) value -= 1n << BigInt(8 * length);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  private push(item: Item): void {
    this.stack.push(item);
  }

  private pushContainer(item: Item): void {
    if (++this.containers > MAX_CONTAINERS) throw refuse(`the pickle makes more than ${MAX_CONTAINERS} containers`);
    this.stack.push(item);
  }

  private popMany(count: number): Item[] {
    const floor = this.marks.at(-1) ?? 0;
    if (this.stack.length - count < floor) throw refuse('the pickle takes more from its stack than it has put there');
    return this.stack.splice(this.stack.length - count, count);
  }

  private pop(): Item {
    return this.popMany(1)[0];
  }

  private top(): Item {
    if (this.stack.length <= (this.marks.at(-1) ?? 0)) throw refuse('the pickle looks below what is on its stack');
    return this.stack[this.stack.length - 1];
  }

  private popMark(): Item[] {
    const mark = this.marks.pop();
    if (mark === undefined) throw refuse('the pickle looks for a mark that it has not set');
    return this.stack.splice(mark);
  }

  private get(index: number): void {
    if (!this.memo.has(index)) throw refuse(`the pickle recalls memo entry ${index}, which it has not stored`);
    this.push(this.memo.get(index)!);
  }

  private put(index: number): void {
    this.memo.set(index, this.top());
  }

  private append(items: Item[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw refuse(`the pickle appends to ${kindOf(list)}`, { expected: 'a list' });
    for (const item of items) list.push(plain(item));
  }

  private addItems(items: Item[]): void {
    const set = this.top();
    if (!(set instanceof Set)) throw refuse(`the pickle adds to ${kindOf(set)}`, { expected: 'a set' });
    for (const item of items) set.add(plain(item));
  }

  private setItems(items: Item[]): void {
    const map = this.top();
    if (!(map instanceof Map) || items.length % 2 !== 0)
      throw refuse(`the pickle sets ${items.length} keys and values in ${kindOf(map)}`, {
        expected: 'pairs in a dictionary',
      });
    for (let i = 0; i < items.length; i += 2) map.set(plain(items[i]), plain(items[i + 1]));
  }

  /**
   * Sets what an object has beside what made it. Only a namespace has anything; a dictionary's `_metadata` is left out.
   */
  private build(state: Item): void {
    const target = this.top();
    if (target instanceof PtObject && state instanceof Map) {
      for (const [key, value] of state) {
        if (typeof key !== 'string')
          throw refuse(`a field of ${target.type} is called ${kindOf(key)}`, { expected: 'a text' });
        target.fields.set(key, value);
      }
    } else if (!((target instanceof Map || target instanceof PtTensor) && (state === null || state instanceof Map))) {
      throw refuse(`the pickle gives ${kindOf(target)} the state ${kindOf(state)}`, {
        expected: 'an object and a dictionary',
      });
    }
  }

  private result(): PtValue {
    if (this.marks.length > 0 || this.stack.length !== 1)
      throw refuse(`the pickle stops with ${this.stack.length} values and ${this.marks.length} marks on its stack`, {
        expected: 'one value',
      });
    return plain(this.stack[0]);
  }
}

/** What may stand in a result: a constructor or a storage by itself may not. */
function plain(item: Item): PtValue {
  if (item instanceof Constructor || item instanceof StorageType || item instanceof StorageRef)
    throw refuse(`the pickle has ${kindOf(item)} where a value belongs`);
  return item;
}

function kindOf(item: Item): string {
  if (item instanceof Constructor) return item.name;
  if (item instanceof StorageType || item instanceof StorageRef) return 'a storage';
  if (item instanceof PtTensor) return 'a tensor';
  if (item instanceof Map) return 'a dictionary';
  if (Array.isArray(item)) return 'a list or tuple';
  if (item instanceof Set) return 'a set';
  if (item instanceof PtObject) return item.type;
  return typeof item === 'string' ? quoted(item) : String(item);
}
