import { defineConfig } from 'vitest/config'

/** Long counts take long. */
const SOAKING = process.env['HAVIRT_RUNS'] !== undefined

/** `unit` needs nothing but Node.js; the others need root and bring up a real cluster each (lab/lab). */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: ['test/lab/**'],
          setupFiles: ['test/properties.ts'],
          testTimeout: SOAKING ? 3_600_000 : 30_000,
        },
      },
      {
        test: {
          name: 'lab',
          include: ['test/lab/**/*.test.ts'],
          exclude: ['test/lab/leases.test.ts', 'test/lab/ocf-side-by-side.test.ts', 'test/lab/pacemaker.test.ts'],
          globalSetup: ['test/lab/set-up.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          // On a lab of its own, beside the others: it waits for minutes until sanlock counts a node as dead.
          name: 'leases',
          include: ['test/lab/leases.test.ts'],
          globalSetup: ['test/lab/set-up.ts'],
          testTimeout: 240_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          // A cluster of Pacemaker's, from the first start of a resource to a node that is fenced.
          name: 'pacemaker',
          include: ['test/lab/pacemaker.test.ts'],
          globalSetup: ['test/lab/pacemaker-set-up.ts'],
          testTimeout: 240_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          // Our agent and the original in the same situations; both have their timeouts to wait for.
          name: 'ocf',
          include: ['test/lab/ocf-side-by-side.test.ts'],
          globalSetup: ['test/lab/ocf-set-up.ts'],
          testTimeout: 240_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
})
