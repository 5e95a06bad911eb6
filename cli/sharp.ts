// sharp, which reads and writes pictures. It is loaded when the first picture is: the library's users don't install it, and most commands
// start faster without.

import { createRequire } from 'node:module';
import type { SharpInput, SharpOptions, Sharp } from 'sharp';

/** Makes a picture of a file's path, of its bytes, or, with options alone, of nothing. */
type MakeSharp = (input?: SharpInput | SharpOptions, options?: SharpOptions) => Sharp;

let loaded: MakeSharp | undefined;

/** sharp's function. packages.ts has told before where it is missing. */
export const sharp: MakeSharp = (...args) => {
  loaded ??= createRequire(import.meta.url)('sharp') as MakeSharp;
  return loaded(...args);
};
