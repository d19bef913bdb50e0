/** The report on a shape that `info` and `design` share. */
import { styleText } from "node:util";
import { describeModel, type ModelConfig } from "../entries/web/design.ts";
import { formatBytes, formatCount, formatShort } from "./usage.ts";

export function formatReport(name: string, config: ModelConfig): string {
  const { parameters, applications, weightBytes, cacheBytesPerToken, ...costs } = describeModel(config);
  const { sharing } = config;
  const schedule =
    sharing.kind === "none"
      ? "each block once"
      : `${sharing.kind} ×${sharing.repeats}, ${sharing.cache} keys and values: ${applications} applications`;
  const share = (count: number): string => `${formatCount(count)} (${((100 * count) / parameters.total).toFixed(1)} %)`;
  const { own, first } = cacheBytesPerToken;
  const lines: [string, string][] = [
    ["shape", `${config.layers} layers × ${config.dim}, hidden ${config.hidden} (${config.activation})`],
    ["heads", `${config.heads} × ${config.headSize}, ${config.kvHeads} for keys and values`],
    ["vocabulary", `${formatCount(config.vocabSize)}, ${config.isTied ? "tied head" : "separate head"}`],
    ["context", `${formatCount(config.contextLength)} tokens`],
    ["schedule", schedule],
    ["parameters", formatCount(parameters.total)],
    ["  embedding", share(parameters.embedding)],
    ["  head", share(parameters.head)],
    ["  attention", share(parameters.attention)],
    ["  feed-forward", share(parameters.feedForward)],
    ["  norms", share(parameters.norms)],
    [
      "weights",
      Object.entries(weightBytes)
        .map(([dtype, bytes]) => `${dtype} ${formatBytes(bytes)}`)
        .join(" · "),
    ],
    [
      "cache a token",
      `own ${formatCount(own.f32)} B, first ${formatCount(first.f32)} B (f16 ${formatCount(own.f16)}, ${formatCount(first.f16)})`,
    ],
    [
      "work a token",
      `${formatShort(costs.flopsPerToken)} FLOP + ${formatShort(costs.attentionFlopsPerPosition)} per position of context`,
    ],
    [
      "full context",
      `${formatBytes(cacheBytesPerToken[sharing.cache].f32 * config.contextLength)} of cache in f32, ${formatShort(
        costs.flopsPerToken + costs.attentionFlopsPerPosition * config.contextLength,
      )} FLOP for its last token`,
    ],
    ["energy a token", `${costs.energy.joulesPerToken.toPrecision(3)} J (0.1 J per billion parameters)`],
    [
      "50 kJ battery",
      `${formatShort(costs.energy.tokensPerCharge)} tokens, ${costs.energy.hoursAtTenTokensPerSecond.toFixed(1)} h at 10 tokens/s`,
    ],
  ];
  return `${styleText("bold", name)}\n${lines.map(([label, text]) => `  ${label.padEnd(16)}${text}`).join("\n")}`;
}
