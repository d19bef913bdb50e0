/** What the WebAssembly build consists of: every kernel, and the operations that become several commands or different ones. */
import { cachedAttention, lowerAttention, sequenceAttention } from "./attention/attention.commands.ts";
import {
  crossEntropyKernels,
  lowerCrossEntropy,
  lowerCrossEntropyBack,
} from "./cross-entropy/cross-entropy.commands.ts";
import type { Kernel } from "./kernel.ts";
import { linearKernels, lowerLinear, lowerLinearInput, lowerLinearWeight } from "./linear/linear.commands.ts";
import type { Lower } from "./lowering.ts";
import { product } from "./matmul/matmul.commands.ts";
import { lowerMuon, muonKernels } from "./muon/muon.commands.ts";
import { kernelOf } from "./operation.ts";
import { operations } from "./operations.ts";
import { quantizeKernels } from "./quantize/quantize.commands.ts";

/** Every kernel, in the order of opcodes. */
export const kernels: readonly Kernel[] = [
  ...Object.values(operations).flatMap((op) => kernelOf(op) ?? []),
  ...linearKernels,
  ...quantizeKernels,
  product,
  cachedAttention,
  sequenceAttention,
  ...crossEntropyKernels,
  ...muonKernels,
];

type Lowerings = { readonly [K in keyof typeof operations]?: Lower<(typeof operations)[K]> };

/** Operations without an entry are one command, that of their declaration. */
export const lowerings = {
  linear: lowerLinear,
  linearInput: lowerLinearInput,
  linearWeight: lowerLinearWeight,
  attention: lowerAttention,
  crossEntropy: lowerCrossEntropy,
  crossEntropyBack: lowerCrossEntropyBack,
  muon: lowerMuon,
} satisfies Lowerings;
