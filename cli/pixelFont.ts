// A small built-in font, so that labels on sheets are readable on machines and in containers that have no fonts at all.
// Five pixels wide, seven high above the base line and two below it; printable ASCII.

/** A glyph is a digit of base 32 for each row from the top, the five bits being the pixels from left to right. */
const glyphs: Record<string, string> = {
  ' ': '',
  '!': '4444004',
  '"': 'aaa',
  '#': 'aavavaa',
  $: '4fke5u4',
  '%': 'op248j3',
  '&': 'cik8lid',
  "'": 'c48',
  '(': '2488842',
  ')': '8422248',
  '*': '04lel4',
  '+': '044v44',
  ',': '00000c48',
  '-': '000e',
  '.': '00000cc',
  '/': '01248g',
  '0': 'ehjlphe',
  '1': '4c4444e',
  '2': 'eh1248v',
  '3': 'v2421he',
  '4': '26aiv22',
  '5': 'vgu11he',
  '6': '68guhhe',
  '7': 'v124888',
  '8': 'ehhehhe',
  '9': 'ehhf12c',
  ':': '0cc0cc',
  ';': '0cc0c48',
  '<': '248g842',
  '=': '00v0v',
  '>': '8421248',
  '?': 'eh12404',
  '@': 'eh1dlle',
  A: 'ehhvhhh',
  B: 'uhhuhhu',
  C: 'ehggghe',
  D: 'sihhhis',
  E: 'vgguggv',
  F: 'vgguggg',
  G: 'ehgnhhf',
  H: 'hhhvhhh',
  I: 'e44444e',
  J: '72222ic',
  K: 'hikokih',
  L: 'ggggggv',
  M: 'hrllhhh',
  N: 'hhpljhh',
  O: 'ehhhhhe',
  P: 'uhhuggg',
  Q: 'ehhhlid',
  R: 'uhhukih',
  S: 'fgge11u',
  T: 'v444444',
  U: 'hhhhhhe',
  V: 'hhhhha4',
  W: 'hhhllla',
  X: 'hha4ahh',
  Y: 'hhha444',
  Z: 'v1248gv',
  '[': 'e88888e',
  '\\': '0g8421',
  ']': 'e22222e',
  '^': '4ah',
  _: '0000000v',
  '`': '842',
  a: '00e1fhf',
  b: 'ggmphhu',
  c: '00egghe',
  d: '11djhhf',
  e: '00ehvge',
  f: '698s888',
  g: '00fhhhf1e',
  h: 'ggmphhh',
  i: '40c444e',
  j: '2062222ic',
  k: 'ggikoki',
  l: 'c44444e',
  m: '00qllhh',
  n: '00mphhh',
  o: '00ehhhe',
  p: '00uhhhugg',
  q: '00fhhhf11',
  r: '00mpggg',
  s: '00fge1u',
  t: '88s8896',
  u: '00hhhjd',
  v: '00hhha4',
  w: '00hhlla',
  x: '00ha4ah',
  y: '00hhhhf1e',
  z: '00v248v',
  '{': '2448442',
  '|': '444444444',
  '}': '8442448',
  '~': '008l2',
};
const unknownGlyph = 'vhhhhhv';
const advance = 6;

/** Rows of a line of text, those below the base line included. */
export const textHeight = 9;

/** Accents are left off where that leaves a letter of the font; other characters become a box. */
function lettersOf(text: string): string[] {
  return [...text.normalize('NFKD').replace(/\p{M}/gu, '')];
}

/** Width in font pixels of a line of text. */
export function textWidth(text: string): number {
  return Math.max(0, lettersOf(text).length * advance - 1);
}

/** Calls `paint(x, y)` for each pixel that is set, counted from the upper left corner of the line. */
export function drawText(text: string, paint: (x: number, y: number) => void): void {
  lettersOf(text).forEach((letter, i) => {
    [...(glyphs[letter] ?? unknownGlyph)].forEach((row, y) => {
      const bits = parseInt(row, 32);
      for (let x = 0; x < 5; x++) if ((bits >> (4 - x)) & 1) paint(i * advance + x, y);
    });
  });
}
