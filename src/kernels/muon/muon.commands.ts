/** Muon on the WebAssembly backend: momentum, rounds of Newton and Schulz between two buffers, and the step. */
import { countChunks } from "../adamw/adamw.ts";
import { declareKernel, type Kernel } from "../kernel.ts";
import type { Lower } from "../lowering.ts";
import { multiply, productForms } from "../matmul/matmul.commands.ts";
import { fixedRows } from "../operation.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { newtonSchulz, stepScale } from "./muon.reference.ts";
import type { muon } from "./muon.ts";

type Shaped = { readonly rows: number; readonly cols: number };
const countOf = ({ rows, cols }: Shaped): number => rows * cols;
const shared = { file: "muon/muon", runtime: [] } as const;
const byElement = { share: ["count"], run: 4 } as const;

const momentum: Kernel = declareKernel({
  ...shared,
  name: "momentum",
  operands: { update: "out", gradient: "inout", mean: "inout", squares: "out", settings: "in", norm: "in" },
  sizes: { count: ({ gradient }) => countOf(gradient) },
  counts: { chunks: ({ gradient }) => countChunks(countOf(gradient)) },
  settings: [],
  divide: { share: ["chunks"] },
});
const normalize: Kernel = declareKernel({
  ...shared,
  name: "normalize",
  operands: { x: "inout", squares: "in" },
  sizes: { count: ({ x }) => countOf(x) },
  settings: ["eps"],
  divide: byElement,
});
const scale: Kernel = declareKernel({
  ...shared,
  name: "scale",
  operands: { y: "out", x: "in" },
  sizes: {},
  counts: { count: ({ y }) => countOf(y) },
  settings: ["factor"],
  divide: byElement,
});
const muonStep: Kernel = declareKernel({
  ...shared,
  name: "muonStep",
  operands: { weight: "inout", x: "in", settings: "in", norm: "in" },
  sizes: {},
  counts: { count: ({ weight }) => countOf(weight) },
  settings: ["factor"],
  divide: byElement,
});

export const muonKernels: readonly Kernel[] = [momentum, normalize, scale, muonStep];

export const lowerMuon: Lower<typeof muon> = ({ operands: { weight, gradient, mean, norm, settings } }, lowering) => {
  const { a, b, c, rounds, eps } = newtonSchulz;
  const [rows, cols] = [fixedRows(weight), weight.cols];
  const isWide = rows <= cols;
  const m = Math.min(rows, cols);
  lowering.needsRows(weight);
  const matrix = (name: string, height: number, width: number): Tensor =>
    lowering.temporary(`${name} of ${weight.name}`, height, width);
  const squares = matrix("squares", 1, countChunks(rows * cols));
  const [gram, polynomial] = [matrix("gram", m, m), matrix("polynomial", m, m)];
  let [x, next] = [matrix("update", rows, cols), matrix("next", rows, cols)];

  const scaled = (to: Tensor, from: Tensor, factor: number): void =>
    lowering.command(scale, { y: to, x: from }, { settings: { factor } });

  lowering.command(momentum, { update: x, gradient, mean, squares, settings, norm });
  lowering.command(normalize, { x, squares }, { settings: { eps } });
  for (let round = 0; round < rounds; round++) {
    multiply(lowering, isWide ? productForms.forward : productForms.weight, { c: gram, a: x, b: x }); // x·xᵀ, or xᵀ·x
    scaled(polynomial, gram, b / c);
    multiply(lowering, productForms.forward, { c: polynomial, plus: polynomial, a: gram, b: gram }); // symmetric: G·Gᵀ = G²
    scaled(polynomial, polynomial, c);
    scaled(next, x, a);
    if (isWide) multiply(lowering, productForms.input, { c: next, plus: next, a: polynomial, b: x });
    else multiply(lowering, productForms.forward, { c: next, plus: next, a: x, b: polynomial });
    [x, next] = [next, x];
  }
  const factor = stepScale(rows, cols);
  lowering.command(muonStep, { weight, x, settings, norm }, { settings: { factor } });
};
