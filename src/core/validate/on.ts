/** Commands on nodes, as findings print them. */
import { pasteableLine } from '../command.ts'

/** A command on a node as a line to paste, whatever characters its words have. */
export function on(node: string, ...argv: string[]): string {
  return pasteableLine({ node, argv }, undefined)
}
