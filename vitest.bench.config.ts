import { defineConfig } from "vitest/config";

/** The benches beside the kernels: `npm run bench:kernels [name]`. One after the other, so that they don't share the machine. */
export default defineConfig({
  test: { include: ["src/**/*.bench.ts"], fileParallelism: false, testTimeout: 60_000, disableConsoleIntercept: true },
});
