/** Bytes for tests: hex with comments in, streams cut into pieces out. */

/** Reads annotated hex: what follows `#` on a line is for people. */
export function hex(text: string): Buffer {
  const digits = text
    .split('\n')
    .map(line => line.split('#')[0] ?? '')
    .join('')
    .replace(/\s/g, '')
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new RangeError(`not whole bytes of hex: ${digits}`)
  return Buffer.from(digits, 'hex')
}

/** The bytes in pieces that end at the given places. */
export function cutAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const ends = [...new Set(places.map(place => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [...ends, bytes.length].map((end, at) => bytes.subarray(ends[at - 1] ?? 0, end))
}
