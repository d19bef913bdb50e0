/** The names that both entries of mobilellm/training export. */
export { TrainingError } from "../../errors.ts";
export type { FileRecord } from "../../formats/open-bytes.ts";
export type { ChatMessage } from "../../tokenizer/chat-template.ts";
export type { ChatLoader } from "../../training/data/chat-loader.ts";
export {
  type ConversationLoaderOptions,
  loadConversations,
  loadTexts,
  type TextLoaderOptions,
} from "../../training/data/memory-loaders.ts";
export type { Loader, LoaderPosition } from "../../training/data/loader.ts";
export type { OptimizerOptions } from "../../training/optimizer.ts";
export type { Row } from "../../training/rows.ts";
export type { ScheduleOptions } from "../../training/schedule.ts";
export type { StepReport, TrainerOptions } from "../../training/trainer.ts";
