/** `mobilellm convert`: a model in another file format or another encoding. */
import { Command, Option } from "commander";
import { convert, type ConvertedTensor, type TargetDtype, targetDtypes } from "../entries/node/convert.ts";
import type { Sharing } from "../entries/node/index.ts";
import { untilInterrupted } from "./interrupt.ts";
import { createProgressLine, parseSharing } from "./model-options.ts";
import { checkOutput, isGgufPath } from "./output.ts";
import { UsageError } from "./usage.ts";

type ConvertOptions = { dtype?: TargetDtype; sharing?: Sharing; force?: boolean };

export function createConvertCommand(): Command {
  return new Command("convert")
    .description("a model in another format: a folder with safetensors, or a .gguf file")
    .argument("<model>", "a folder with config.json and weights, a .gguf file, or a Hub id")
    .argument("<out>", "a name that ends in .gguf, or a folder")
    .addOption(
      new Option("--dtype <name>", "weights in the file (default: as they are, else f32); q8, q4: .gguf only").choices(
        targetDtypes,
      ),
    )
    .option("--sharing <schedule>", "kind[xN], such as immediatex2: written out as plain blocks", parseSharing)
    .option("--force", "overwrite")
    .addHelpText("after", "\nExample:\n  $ mobilellm convert models/MobileLLM-125M model.gguf --dtype q8")
    .action((model: string, out: string, options: ConvertOptions) =>
      untilInterrupted((signal) => runConvert(model, out, options, signal)),
    );
}

async function runConvert(model: string, out: string, options: ConvertOptions, signal: AbortSignal): Promise<void> {
  const { dtype, sharing, force = false } = options;
  if (!isGgufPath(out) && (dtype === "q8" || dtype === "q4")) {
    throw new UsageError(`convert: a folder takes f32, f16 or bf16, got ${dtype}. Name a .gguf file for it.`);
  }
  await checkOutput("convert", model, out, force);
  const progress = createProgressLine("Converting");
  try {
    const { tensors, notes } = await convert({ model, out, dtype, sharing, signal, onProgress: progress.show });
    progress.clear();
    for (const note of notes) console.error(note);
    console.log(`${out}: ${countEncodings(tensors)}`);
  } finally {
    progress.clear();
  }
}

/** `Q8_0 in 211 tensors, F32 in 61`. */
function countEncodings(tensors: readonly ConvertedTensor[]): string {
  const counts = new Map<string, number>();
  for (const { to } of tensors) counts.set(to, (counts.get(to) ?? 0) + 1);
  return Array.from(
    counts,
    ([encoding, count]) => `${encoding} in ${count} ${count === 1 ? "tensor" : "tensors"}`,
  ).join(", ");
}
