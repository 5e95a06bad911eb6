// Numbers as people read them.

/** 1234567 → "1,234,567". */
export const grouped = (n: number): string => n.toLocaleString('en-US');

/** Three significant digits with a prefix: 5.13 M, 1.2 k. */
export function si(n: number): string {
  const units = ['', ' k', ' M', ' G', ' T', ' P', ' E', ' Z'];
  let at = 0;
  while (Math.abs(n) >= 999.5 && at < units.length - 1) [n, at] = [n / 1000, at + 1];
  return `${at === 0 && Number.isInteger(n) ? n : significant(n)}${units[at]}`;
}

/** Three significant digits, without an exponent where the number is large: 1.50, 23.4, 1,013. */
export function significant(n: number, digits = 3): string {
  return Math.abs(n) >= 10 ** digits - 0.5 ? grouped(Math.round(n)) : n.toPrecision(digits);
}

/** Bytes in binary units: 1.50 GiB. */
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (n >= 1023.5 && at < units.length - 1) [n, at] = [n / 1024, at + 1];
  return `${at === 0 ? n : significant(n)} ${units[at]}`;
}

/** Seconds as 12 s, 3:07, 1:02:03 or 2 d 03:04. */
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  if (!Number.isFinite(s)) return '–';
  if (s < 60) return `${s} s`;
  const two = (n: number): string => String(n).padStart(2, '0');
  const [days, hours, minutes] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
  if (days > 0) return `${days} d ${two(hours)}:${two(minutes)}`;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(s % 60)}` : `${minutes}:${two(s % 60)}`;
}

/** A loss or a learning rate: four significant digits, an exponent where it is very small. */
export function small(x: number): string {
  return x !== 0 && Math.abs(x) < 1e-3 ? x.toExponential(2) : significant(x, 4);
}

/** "1 image", "2 images". */
export const counted = (n: number, noun: string, plural = `${noun}s`): string =>
  `${grouped(n)} ${n === 1 ? noun : plural}`;

/** Names in a sentence, the first five of them. */
export function naming(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${grouped(names.length - 5)} more` : shown;
}
