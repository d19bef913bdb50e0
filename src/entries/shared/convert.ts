/** The names that both entries of mobilellm/convert export. */
export type { Conversion, ConversionSettings, Quantization } from "../../conversion/convert.ts";
export type { ErrorReport, TensorError } from "../../conversion/error-report.ts";
export { type ConvertedTensor, type TargetDtype, targetDtypes } from "../../conversion/plan.ts";
