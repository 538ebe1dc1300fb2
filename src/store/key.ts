/** Any text as one segment of a store key. */
import { createHash } from 'node:crypto'
import { KEY_SEGMENT } from './store.ts'

/** The text itself where a key can hold it, percent-encoded where not, and a hash where that would be too long. Never the same for two texts. */
export function keySegment(text: string): string {
  const encoded = encodeURIComponent(text)
    .replace(/[!'()*~]/g, character => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
    .replace(/^\./, '%2E')
  return KEY_SEGMENT.test(encoded) ? encoded : `sha256=${createHash('sha256').update(text).digest('hex')}`
}
