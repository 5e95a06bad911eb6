// The two namings of the attention's weights in diffusers' files.

const RENAMED: readonly (readonly [old: RegExp, now: string])[] = [
  [/(\.attentions\.\d+)\.query\.(weight|bias)$/, '$1.to_q.$2'],
  [/(\.attentions\.\d+)\.key\.(weight|bias)$/, '$1.to_k.$2'],
  [/(\.attentions\.\d+)\.value\.(weight|bias)$/, '$1.to_v.$2'],
  [/(\.attentions\.\d+)\.proj_attn\.(weight|bias)$/, '$1.to_out.0.$2'],
];

/** The name that a parameter has today: files written before diffusers 0.15 say query, key, value and proj_attn. */
export function currentName(name: string): string {
  for (const [old, now] of RENAMED) if (old.test(name)) return name.replace(old, now);
  return name;
}

/** Entries under today's names. */
export function currentNames<T>(entries: Iterable<readonly [string, T]>): Map<string, T> {
  return new Map(Array.from(entries, ([name, value]) => [currentName(name), value] as const));
}
