// A small JSON reader for file headers that come from strangers. JSON.parse keeps the last of two equal keys and builds
// plain objects; a header with a repeated tensor name is a forged or broken one, and a name such as `__proto__` must
// stay a name. Here objects become Maps, repeated keys are refused, and nesting is bounded.

export type HeaderJson = null | boolean | number | string | HeaderJson[] | Map<string, HeaderJson>;

const MAX_DEPTH = 32;
/** Values and objects in one text: a Map takes hundreds of bytes where a file needs two. */
const MAX_VALUES = 2_500_000,
  MAX_OBJECTS = 250_000;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const SPACE = /[ \t\r\n]*/y;

/**
 * Parses one JSON text (RFC 8259); trailing white space is allowed.
 *
 * @throws SyntaxError with the character position, for anything that is not JSON, a repeated key, or nesting deeper
 *   than 32.
 */
export function parseHeaderJson(text: string): HeaderJson {
  let at = 0,
    values = 0,
    objects = 0;

  function fail(what: string): never {
    throw new SyntaxError(`${what} at character ${at}`);
  }

  function skipSpace(): void {
    SPACE.lastIndex = at;
    SPACE.test(text);
    at = SPACE.lastIndex;
  }

  function expect(character: string): void {
    if (text[at] !== character) fail(`expected '${character}', found ${found()}`);
    at++;
  }

  function found(): string {
    return at < text.length ? JSON.stringify(text[at]) : 'the end';
  }

  function string(): string {
    const start = at;
    expect('"');
    for (;;) {
      const quote = text.indexOf('"', at);
      if (quote < 0) {
        at = start;
        fail('unterminated string');
      }
      let backslashes = 0;
      while (text[quote - 1 - backslashes] === '\\') backslashes++;
      at = quote + 1;
      if (backslashes % 2 === 0) break;
    }
    try {
      return JSON.parse(text.slice(start, at)) as string;
    } catch {
      at = start;
      return fail('malformed string');
    }
  }

  function object(depth: number): Map<string, HeaderJson> {
    if (++objects > MAX_OBJECTS) fail(`more than ${MAX_OBJECTS} objects`);
    const members = new Map<string, HeaderJson>();
    expect('{');
    skipSpace();
    if (text[at] === '}') {
      at++;
      return members;
    }
    for (;;) {
      skipSpace();
      const keyAt = at;
      const key = string();
      if (members.has(key)) {
        at = keyAt;
        fail(`repeated key ${JSON.stringify(key.length > 80 ? `${key.slice(0, 77)}...` : key)}`);
      }
      skipSpace();
      expect(':');
      members.set(key, value(depth + 1));
      skipSpace();
      if (text[at] === '}') break;
      expect(',');
    }
    at++;
    return members;
  }

  function array(depth: number): HeaderJson[] {
    const items: HeaderJson[] = [];
    expect('[');
    skipSpace();
    if (text[at] === ']') {
      at++;
      return items;
    }
    for (;;) {
      items.push(value(depth + 1));
      skipSpace();
      if (text[at] === ']') break;
      expect(',');
    }
    at++;
    return items;
  }

  function value(depth: number): HeaderJson {
    if (depth > MAX_DEPTH) fail(`nesting deeper than ${MAX_DEPTH}`);
    if (++values > MAX_VALUES) fail(`more than ${MAX_VALUES} values`);
    skipSpace();
    const first = text[at];
    if (first === '{') return object(depth);
    if (first === '[') return array(depth);
    if (first === '"') return string();
    for (const [word, meaning] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    NUMBER.lastIndex = at;
    const number = NUMBER.exec(text);
    if (!number) return fail(`unexpected ${found()}`);
    at = NUMBER.lastIndex;
    return Number(number[0]);
  }

  const result = value(0);
  skipSpace();
  if (at < text.length) fail(`unexpected ${found()} after the value`);
  return result;
}
