/**
 * Properties are tried on the same cases in each run of `make test`, so that a failure is somebody's change and not chance.
 * `make soak` tries others, many more of them, and says its seed.
 */
import fc from 'fast-check'

const seed = process.env['HAVIRT_SEED']
const runs = process.env['HAVIRT_RUNS']

fc.configureGlobal({
  seed: seed === undefined ? 20_261_121 : Number(seed),
  ...(runs === undefined ? {} : { numRuns: Number(runs) }),
})
