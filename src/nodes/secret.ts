/** Secrets that the configuration names by their files: passwords of fence devices and iSCSI portals. */
import { constants } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'

/** No password is longer than this; another file was named by mistake. */
const MAX_SECRET_BYTES = 4096

/** The first line of a file that only its owner, root or us, may read. */
export async function readSecret(file: string): Promise<string> {
  // A named pipe would keep us waiting for whoever writes.
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const problem = await secretProblem(handle)
    if (problem !== undefined) throw new Error(problem)
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(MAX_SECRET_BYTES), 0, MAX_SECRET_BYTES, 0)
    const line = buffer.toString('utf8', 0, bytesRead).split('\n', 1)[0] ?? ''
    if (line === '') throw new Error('its first line is empty')
    if (/[\p{Cc}\ufffd]/u.test(line) || line.trim() !== line)
      throw new Error('its first line has spaces at an end, or characters that are no text')
    return line
  } finally {
    await handle.close()
  }
}

async function secretProblem(handle: FileHandle): Promise<string | undefined> {
  const facts = await handle.stat()
  if (!facts.isFile()) return 'it is no regular file'
  if ((facts.mode & 0o077) !== 0)
    return 'others may read or write it; chmod 600 it, and change the password if they did'
  return facts.uid === 0 || facts.uid === process.getuid?.() ? undefined : 'it belongs to another user'
}
