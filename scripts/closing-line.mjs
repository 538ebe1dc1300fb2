// A reporter for vitest: one last line, `unit: 12 passed, 0 failed`, that a person or a script finds at once.
// Before it come the figures of tests that prove by number (test/lab/counts.ts).
export default class ClosingLine {
  onTestRunEnd(modules, errors) {
    const counts = { passed: 0, failed: errors.length, skipped: 0 }
    for (const module of modules) {
      if (module.errors().length > 0) counts.failed++
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        const { figures } = test.meta()
        if (figures !== undefined) process.stdout.write(`${figures}\n`)
        if (state in counts) counts[state]++
      }
    }
    const project = modules[0]?.project.name ?? 'tests'
    const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : ''
    process.stdout.write(`${project}: ${counts.passed} passed, ${counts.failed} failed${skipped}\n`)
  }
}
