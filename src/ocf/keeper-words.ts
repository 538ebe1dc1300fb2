/** What the agent and the keeper of its claim say to each other: one JSON text a line. */

/** The agent's first line. */
export interface Task {
  /** havirt's home folder. */
  readonly home: string
  readonly name: string
  readonly uuid: string
  /** The definition: its disks are claimed, too. */
  readonly xml: string
  /** Shown to whoever the claim keeps out. */
  readonly verb: string
  /** The keeper gives up asking for the claim after so long. */
  readonly patienceMs: number
}

/** What the agent says then: before a command is sent, and when its end was seen. The end of its words ends the claim. */
export type Word = { readonly about: string } | { readonly settled: true }

export type Answer =
  /** The store answers. */
  | { readonly is: 'open' }
  /** Somebody has the claim, and gives no sign of life. */
  | { readonly is: 'waiting'; readonly holder: string }
  /** The claim is ours; other nodes are asked now. */
  | { readonly is: 'claimed'; readonly generation: number; readonly nodeId: string }
  /** Nothing stands in the way. `notes`: what should be known. */
  | { readonly is: 'clear'; readonly notes: readonly string[] }
  /** Something does, as a sentence. */
  | { readonly is: 'refused'; readonly sentence: string }
  /** The command may be sent. */
  | { readonly is: 'written' }
  /** The claim is no longer ours. */
  | { readonly is: 'lost'; readonly sentence: string }
  /** The store cannot be used. */
  | { readonly is: 'failed'; readonly sentence: string }

/** Splits a stream of text into whole lines. */
export function lineReader(hear: (line: string) => void): (chunk: string) => void {
  let rest = ''
  return chunk => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line !== '') hear(line)
  }
}
