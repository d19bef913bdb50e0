#!/usr/bin/env node
/**
 * The command line. Errors are one line on stderr: exit 1, or 2 for wrong usage, 130 after Ctrl-C;
 * MOBILELLM_DEBUG=1 shows the stack.
 */
import { createRequire } from "node:module";
import { Command, CommanderError } from "commander";
import { createChatCommand } from "./chat.ts";
import { createConvertCommand } from "./convert.ts";
import { createDataCommand } from "./data.ts";
import { createDashboardCommand } from "./dashboard.ts";
import { createDesignCommand } from "./design.ts";
import { createEvalCommand } from "./eval.ts";
import { createGenerateCommand } from "./generate.ts";
import { createInfoCommand } from "./info.ts";
import { Interrupted } from "./interrupt.ts";
import { createQuantizeCommand } from "./quantize.ts";
import { createTrainCommand } from "./train.ts";
import { UsageError } from "./usage.ts";

// `mobilellm design | head -1` closes our output early: nobody is left to tell.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : report(new Error(`standard output: ${error.message}`)));
});
process.stderr.on("error", () => {}); // nor is there anywhere to say that nobody reads what we say

const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
const program = new Command("mobilellm")
  .version(version)
  .description("Design, train and run sub-billion-parameter language models")
  .addHelpText("after", '\nExample:\n  $ mobilellm generate --model model.gguf "The moon is"');
for (const create of [
  createGenerateCommand,
  createChatCommand,
  createInfoCommand,
  createDesignCommand,
  createDataCommand,
  createTrainCommand,
  createDashboardCommand,
  createConvertCommand,
  createQuantizeCommand,
  createEvalCommand,
]) {
  program.addCommand(create());
}
for (const command of [program, ...program.commands.flatMap((command) => [command, ...command.commands])]) {
  command.exitOverride().showSuggestionAfterError().allowExcessArguments(false);
  command.configureOutput({ outputError: () => {} });
}

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

function report(error: unknown): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  if (error instanceof CommanderError && error.code === "commander.help") return 2; // bare: help was shown
  if (error instanceof Interrupted) return 130;
  const text = error instanceof Error ? error.message : String(error);
  console.error(`mobilellm: ${text.replace(/^error: /, "").replaceAll(/\s*\n\s*/g, " ")}`);
  if (process.env["MOBILELLM_DEBUG"] === "1" && error instanceof Error) console.error(error.stack);
  return error instanceof CommanderError || error instanceof UsageError ? 2 : 1;
}
