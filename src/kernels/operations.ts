/** All operations by name. A new one is added here, and, if one command is not enough for it, in kernels.ts. */
import { adamw, clear, clip, squares } from "./adamw/adamw.ts";
import { attention, attentionBack } from "./attention/attention.ts";
import { crossEntropy, crossEntropyBack } from "./cross-entropy/cross-entropy.ts";
import { add, relu, reluBack, swiglu, swigluBack } from "./elementwise/elementwise.ts";
import { embed, embedBack } from "./embed/embed.ts";
import { linear, linearInput, linearWeight } from "./linear/linear.ts";
import { logProbability } from "./log-probability/log-probability.ts";
import { muon } from "./muon/muon.ts";
import { gainBack, rmsnorm, rmsnormBack } from "./rmsnorm/rmsnorm.ts";
import { rope } from "./rope/rope.ts";
import { pick, store } from "./rows/rows.ts";

export const operations = {
  embed,
  embedBack,
  rmsnorm,
  rmsnormBack,
  gainBack,
  linear,
  linearInput,
  linearWeight,
  rope,
  store,
  attention,
  attentionBack,
  swiglu,
  swigluBack,
  relu,
  reluBack,
  add,
  pick,
  logProbability,
  crossEntropy,
  crossEntropyBack,
  squares,
  clip,
  adamw,
  muon,
  clear,
};
