// Operations and Tensor import each other. An operation is therefore made at its first call, when every module is there.

export function lazyOp<A extends readonly unknown[], R>(make: () => (...args: A) => R): (...args: A) => R {
  let op: ((...args: A) => R) | undefined;
  return (...args) => (op ??= make())(...args);
}
