import { defineConfig } from 'vitest/config'

/** Long counts take long. */
const SOAKING = process.env['HAVIRT_RUNS'] !== undefined

/** Two projects: `unit` needs nothing but Node.js, `lab` needs root and brings up a real cluster (lab/lab). */
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
          globalSetup: ['test/lab/set-up.ts'],
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
})
