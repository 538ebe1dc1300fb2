/** Takes the place of the global AbortController when the simulator is bundled: Node.js's makes an exception and an event each time. */

class QuickSignal {
  aborted = false
  #listeners: (() => void)[] = []

  addEventListener(_: 'abort', listener: () => void): void {
    this.#listeners.push(listener)
  }

  removeEventListener(_: 'abort', listener: () => void): void {
    const at = this.#listeners.indexOf(listener)
    if (at >= 0) this.#listeners.splice(at, 1)
  }

  abort(): void {
    if (this.aborted) return
    this.aborted = true
    for (const listener of this.#listeners.splice(0)) listener()
  }
}

class QuickAbortController {
  readonly signal = new QuickSignal()

  abort(): void {
    this.signal.abort()
  }
}

export { QuickAbortController as AbortController }
