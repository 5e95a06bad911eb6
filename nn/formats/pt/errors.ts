// How every part of the .pt reader refuses a file.

import { FormatError, type ErrorDetails } from '../../../core/errors.ts';

export function refuse(what: string, details?: ErrorDetails): FormatError {
  return new FormatError('openPt', what, details);
}

/** A name or text from a file, quoted and cut to a length that fits a message. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
}
