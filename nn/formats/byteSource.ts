// Where a reader of weight files gets its bytes from: memory, a Blob in a browser, or a file that is read piece by
// piece.

/** Bytes that can be read from anywhere. */
export interface ByteSource {
  /** How many there are. */
  readonly size: number;
  /** The bytes from `begin` up to `end`, both within the source. */
  read(begin: number, end: number): Promise<Uint8Array>;
}

/** Bytes in memory or in a Blob as a source. A source is returned as it is. */
export function byteSource(bytes: Uint8Array | ArrayBuffer | Blob | ByteSource): ByteSource {
  if (bytes instanceof Blob) {
    return {
      size: bytes.size,
      read: async (begin, end) => new Uint8Array(await bytes.slice(begin, end).arrayBuffer()),
    };
  }
  if (!(bytes instanceof Uint8Array || bytes instanceof ArrayBuffer)) return bytes;
  // Not a Buffer of Node, whose slice() copies nothing.
  const all =
    bytes instanceof Uint8Array ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length) : new Uint8Array(bytes);
  return { size: all.length, read: (begin, end) => Promise.resolve(all.subarray(begin, end)) };
}
