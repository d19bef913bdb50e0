/** mobilellm/design: what a shape costs before it exists, and shapes under a budget. Pure numbers, the same in a browser and in Node. */
export { describeModel, type Energy, type ModelDescription } from "../../design/describe.ts";
export { chooseKvHeads, type ShapeRequest, suggestShapes } from "../../design/suggest-shape.ts";
export {
  checkConfig,
  countParameters,
  feedForwardWidth,
  fromHfConfig,
  type ModelConfig,
  type ParameterCount,
  type PresetName,
  presets,
  type Sharing,
} from "../../model/config.ts";
