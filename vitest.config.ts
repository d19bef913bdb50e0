import { defineConfig } from "vitest/config";

const timeouts = { testTimeout: 60_000, hookTimeout: 60_000 };

/** Tests beside the code are fast; those in test/ are end to end: the command line, browsers, whole models. */
export default defineConfig({
  test: {
    globalSetup: "test/support/fresh-build.ts",
    projects: [
      {
        test: {
          name: "fast",
          include: ["src/**/*.test.ts"],
          // One process for many files: they share nothing but modules, and starting each anew takes a fifth of the time.
          isolate: false,
          maxWorkers: "100%",
          ...timeouts,
        },
      },
      {
        test: {
          name: "slow",
          include: ["test/**/*.test.ts"],
          setupFiles: "test/support/require-build.ts",
          // After the fast ones, with fewer workers: what they start has threads of its own.
          sequence: { groupOrder: 1 },
          ...timeouts,
        },
      },
    ],
  },
});
