/** Sessions with a real daemon as text: written by a tap on a stream, read back as packets. */
import { Duplex } from 'node:stream'
import { messageType, type Packet, PacketAssembler, program } from '../../src/libvirt/packet.ts'
import { events, procedures } from '../../src/libvirt/procedures.ts'

export interface RecordedPacket {
  readonly from: 'client' | 'daemon'
  /** What it is, for a reader of the file. */
  readonly label: string
  readonly bytes: Buffer
}

/** Notes every packet that passes through `stream`, in both directions. */
export function tap(stream: Duplex): RecordedPacket[] {
  const packets: RecordedPacket[] = []
  const incoming = new PacketAssembler()
  const write = stream.write.bind(stream)
  stream.write = ((bytes: Buffer) => {
    packets.push({ from: 'client', label: labelOf(bytes), bytes: Buffer.from(bytes) })
    return write(bytes)
  }) as typeof stream.write
  stream.prependListener('data', (chunk: Buffer) => {
    for (const packet of incoming.push(chunk)) {
      const bytes = rejoin(packet)
      packets.push({ from: 'daemon', label: labelOf(bytes), bytes })
    }
  })
  return packets
}

function rejoin(packet: Packet): Buffer {
  const words = [packet.program, packet.version, packet.procedure, packet.type, packet.serial, packet.status]
  return Buffer.concat([word(packet.payload.length + 28), ...words.map(word), packet.payload])
}

function word(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

function labelOf(bytes: Buffer): string {
  const [programNumber, number, type] = [bytes.readUInt32BE(4), bytes.readUInt32BE(12), bytes.readUInt32BE(16)]
  if (programNumber === program.keepalive) return number === 1 ? 'ping' : 'pong'
  const table = Object.values(type === messageType.message ? events : procedures)
  const name = table.find(row => row.number === number)?.name ?? `procedure ${number}`
  const failed = bytes.readUInt32BE(24) === 1 ? ' refused' : ''
  return `${name} ${Object.keys(messageType)[type]}${failed}`
}

/** The text of a recording: a header line of seven words for each packet, then its payload, four words a line. */
export function formatRecording(title: string, packets: readonly RecordedPacket[]): string {
  const blocks = packets.map(({ from, label, bytes }) => {
    const lines = [`${from === 'client' ? '>' : '<'} ${label}`, hexLine(bytes.subarray(0, 28), 7)]
    for (let at = 28; at < bytes.length; at += 16) lines.push(hexLine(bytes.subarray(at, at + 16), 4))
    return lines.join('\n')
  })
  return `# ${title}\n\n${blocks.join('\n\n')}\n`
}

function hexLine(bytes: Buffer, words: number): string {
  const hex = (bytes.toString('hex').match(/.{1,8}/g) ?? []).join(' ')
  return `  ${hex.padEnd(words * 9 - 1)}  |${bytes.toString('latin1').replace(/[^ -~]/g, '.')}|`
}

export function parseRecording(text: string): RecordedPacket[] {
  return text
    .split(/^(?=[<>] )/m)
    .slice(1)
    .map(block => {
      const [title = '', ...lines] = block.trimEnd().split('\n')
      const hex = lines.map(line => (line.split('|')[0] ?? '').replaceAll(' ', '')).join('')
      return {
        from: title.startsWith('>') ? 'client' : 'daemon',
        label: title.slice(2),
        bytes: Buffer.from(hex, 'hex'),
      }
    })
}

/** A daemon that plays its part of a recording, and ends the stream with an error when the client leaves its own part. */
export function replay(packets: readonly RecordedPacket[]): Duplex {
  const left = [...packets]
  const speak = (stream: Duplex) => {
    while (left[0]?.from === 'daemon') stream.push(left.shift()?.bytes)
  }
  return new Duplex({
    read: () => undefined,
    write(bytes: Buffer, _encoding, done) {
      const expected = left.shift()
      const differs = expected === undefined || !expected.bytes.equals(bytes)
      if (!differs) speak(this)
      done(differs ? new Error(`sent ${bytes.toString('hex')}, recorded was ${expected?.label}`) : null)
    },
  })
}
