// What people give by mistake, and the sentences that say so: types refuse it at compile time, but JavaScript does not.

import { ValueError } from '../errors.ts';
import { Device } from '../gpu/device.ts';
import { TensorBase } from './base.ts';
import { show } from './shape.ts';

/** A value in words: `the string "a"`, `the object {"axis":1}`. */
export function inWords(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (value instanceof TensorBase) return `a tensor of shape ${show(value.shape)}`;
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return `the array ${short(value)}`;
  if (typeof value === 'object') {
    const { name } = (value.constructor as { name?: string } | undefined) ?? {};
    return name === undefined || name === 'Object' ? `the object ${short(value)}` : `a ${name}`;
  }
  return `the ${typeof value} ${typeof value === 'string' ? JSON.stringify(value) : String(value)}`;
}

/** @throws ValueError where the first argument of a function that makes tensors is no device */
export function checkDevice(op: string, device: unknown): void {
  if (device instanceof Device) return;
  throw new ValueError(op, `The first argument is ${inWords(device)}`, {
    expected: 'a device',
    remedy: `write ${op}(device, …) with const device = await openDevice()`,
  });
}

/** @throws ValueError for what is neither a tensor nor, where `numbers` are allowed, a number */
export function checkOperands(op: string, operands: readonly unknown[], { numbers }: { numbers: boolean }): void {
  for (let i = 0; i < operands.length; i++) {
    const operand = operands[i];
    if (operand instanceof TensorBase || (numbers && typeof operand === 'number')) continue;
    throw new ValueError(op, `Operand ${i + 1} is ${inWords(operand)}`, {
      expected: numbers ? 'a tensor or a number' : 'a tensor',
      remedy: Array.isArray(operand) ? 'make a tensor of it: tensor(device, [...])' : undefined,
    });
  }
}

/** The error of an operation whose tensors, by name and also in arrays, lie on more than one device. */
export function mixedDevices(op: string, named: object): ValueError {
  const list = Object.entries(named).flatMap(([name, value]: [string, unknown]): [string, TensorBase][] =>
    value instanceof TensorBase
      ? [[name, value]]
      : Array.isArray(value)
        ? value.flatMap((v, i) => (v instanceof TensorBase ? [[`${name}[${i}]`, v] as [string, TensorBase]] : []))
        : [],
  );
  const [[firstName, first]] = list;
  const [name, other] = list.find(([, t]) => t.device !== first.device) ?? ['a tensor', first];
  return new ValueError(
    op,
    `${name} of shape ${show(other.shape)} lies on another device than ${firstName} of shape ${show(first.shape)}`,
    { expected: 'all on one device', remedy: 'copy it: tensor(device, await x.data(), { shape: x.shape })' },
  );
}

/** @throws ValueError where tensors lie on more than one device */
export function checkSameDevice(op: string, tensors: readonly TensorBase[]): void {
  for (const { device } of tensors) if (device !== tensors[0].device) throw mixedDevices(op, { tensors });
}

function short(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 40 ? `${text.slice(0, 40)} …` : text;
}
