/** `mobilellm quantize`: a smaller GGUF file, and what that costs in each tensor. */
import { stat } from "node:fs/promises";
import { Command, Option } from "commander";
import { type ErrorReport, quantize } from "../entries/node/convert.ts";
import type { Sharing } from "../entries/node/index.ts";
import { untilInterrupted } from "./interrupt.ts";
import { createProgressLine, parseSharing } from "./model-options.ts";
import { checkOutput, isGgufPath } from "./output.ts";
import { formatBytes, formatTable, UsageError } from "./usage.ts";

type QuantizeOptions = { dtype: "q8" | "q4"; sharing?: Sharing; force?: boolean; json?: boolean };

export function createQuantizeCommand(): Command {
  return new Command("quantize")
    .description("write a .gguf file of 8 or 4 bits a weight, and report each tensor's error")
    .argument("<model>", "a folder with config.json and weights, a .gguf file, or a Hub id")
    .argument("<out.gguf>", "the file to write")
    .addOption(
      new Option("--dtype <name>", "q8: Q8_0; q4: Q4_1, with Q8_0 for embedding and head")
        .choices(["q8", "q4"])
        .makeOptionMandatory(),
    )
    .option("--sharing <schedule>", "kind[xN], such as immediatex2: written out as plain blocks", parseSharing)
    .option("--force", "overwrite")
    .option("--json", "for machines")
    .addHelpText("after", "\nExample:\n  $ mobilellm quantize models/MobileLLM-125M model.gguf --dtype q4")
    .action((model: string, out: string, options: QuantizeOptions) =>
      untilInterrupted((signal) => runQuantize(model, out, options, signal)),
    );
}

async function runQuantize(model: string, out: string, options: QuantizeOptions, signal: AbortSignal): Promise<void> {
  const { dtype, sharing, force = false } = options;
  if (!isGgufPath(out)) throw new UsageError(`quantize: a name that ends in .gguf is required, got ${out}.`);
  await checkOutput("quantize", model, out, force);
  const progress = createProgressLine("Quantizing");
  try {
    const { notes, ...report } = await quantize({ model, out, dtype, sharing, signal, onProgress: progress.show });
    progress.clear();
    for (const note of notes) console.error(note);
    const { size } = await stat(out);
    console.log(
      options.json
        ? JSON.stringify({ file: out, bytes: size, ...report }, null, 2)
        : `${formatErrors(report)}\n${out}: ${formatBytes(size)}`,
    );
  } finally {
    progress.clear();
  }
}

function formatErrors({ tensors, total }: ErrorReport): string {
  const numbers = ({ relativeRmsError, maxError, bitsPerWeight }: ErrorReport["total"]): string[] => [
    `${(100 * relativeRmsError).toFixed(3)} %`,
    maxError.toPrecision(3),
    bitsPerWeight.toFixed(2),
  ];
  return formatTable([
    ["tensor", "from", "to", "RMS error", "largest error", "bits/weight"],
    ...tensors.map((tensor) => [tensor.name, tensor.from, tensor.to, ...numbers(tensor)]),
    ["all", "", "", ...numbers(total)],
  ]);
}
