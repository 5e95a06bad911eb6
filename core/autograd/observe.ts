// Watching operations as they run: what searches for NaN, or counts, listens here.

import type { Tensor } from '../tensor.ts';
import type { GradNode, Gradients } from './node.ts';

/** What an operation did: given to an observer, which may read the tensors and must not keep them. */
export interface OpEvent {
  readonly op: string;
  /**
   * The operation whose backward pass is running. It is `op` itself when `outputs` are the gradients that the pass
   * gave.
   */
  readonly backwardOf: string | null;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

let observer: ((event: OpEvent) => void) | null = null;
let backwardOf: string | null = null;

/** Tells the observer, if there is one. */
export function observed(op: string, inputs: readonly Tensor[], outputs: readonly Tensor[]): void {
  observer?.({ op, backwardOf, inputs, outputs });
}

/** Whether anybody watches. */
export function isObserved(): boolean {
  return observer !== null;
}

/** Calls a function after every operation, with the innermost first; null stops it. Returns the one before. */
export function observeOps(next: ((event: OpEvent) => void) | null): ((event: OpEvent) => void) | null {
  const before = observer;
  observer = next;
  return before;
}

/** @internal Runs the backward pass of a node's operation, and shows the observer what it gave. */
export function duringBackward(node: GradNode, grads: Gradients): Gradients {
  const before = backwardOf;
  backwardOf = node.name;
  try {
    const results = node.run!(grads);
    const present = (list: Gradients): Tensor[] => list.filter((g): g is Tensor => !!g);
    observer?.({ op: node.name, backwardOf, inputs: present(grads), outputs: present(results) });
    return results;
  } finally {
    backwardOf = before;
  }
}
