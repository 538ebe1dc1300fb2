/** Takes the place of node:crypto's uuids when the simulator is bundled: never the same twice, and the same in every run. */
let count = 0

/** Another text each time. */
export function randomUUID(): string {
  return `00000000-0000-4000-8000-${String(++count).padStart(12, '0')}`
}

/** A run begins. */
export function beginAnew(): void {
  count = 0
}
