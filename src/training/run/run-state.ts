/** What a run needs besides weights and moments to go on exactly: saved as run.json inside each checkpoint. */
import { FormatError } from "../../errors.ts";
import type { LoaderPosition } from "../data/loader.ts";
import * as o from "../../options.ts";

/** Sizes, in bytes, of the files that grow: what lies beyond was written by steps that a resumed run does again. */
export type FileOffsets = { readonly metrics: number; readonly events: number };

/** The lowest held-out loss, in nats per token, and where it was. */
export type BestLoss = { readonly step: number; readonly loss: number; readonly bitsPerByte: number };

/** All that goes into run.json. */
export type RunState = {
  readonly version: 1;
  readonly step: number;
  /** Held-out loss and samples are done for the steps up to this one; -1: not even for the start. */
  readonly reportedStep: number;
  readonly tokens: number;
  readonly elapsedMs: number;
  /** The loss of the first step, which an explosion is measured against. */
  readonly firstLoss: number | undefined;
  /** The loss of the last step. */
  readonly lastLoss: number | undefined;
  readonly best: BestLoss | undefined;
  readonly position: LoaderPosition;
  readonly offsets: FileOffsets;
};

const runStateSchema = o.jsonObject<RunState>({
  version: o.number({ isWhole: true, min: 1, max: 1 }, "1") as o.Schema<1>,
  step: o.wholeOrZero,
  reportedStep: o.number({ isWhole: true, min: -1 }),
  tokens: o.wholeOrZero,
  elapsedMs: o.number({ min: 0 }),
  firstLoss: o.optional(o.number()),
  lastLoss: o.optional(o.number()),
  best: o.optional(o.jsonObject<BestLoss>({ step: o.wholeOrZero, loss: o.number(), bitsPerByte: o.number() })),
  position: o.instance<LoaderPosition>("an object"), // checked by the loader
  offsets: o.jsonObject<FileOffsets>({ metrics: o.wholeOrZero, events: o.wholeOrZero }),
});

/** Reads run.json. @param file for messages. @throws {FormatError} naming the field that is wrong. */
export function parseRunState(json: string, file: string): RunState {
  try {
    return o.checkFile(file, runStateSchema, JSON.parse(json));
  } catch (cause) {
    const { message } = cause as Error;
    const where = cause instanceof FormatError ? "" : `${file}: `;
    throw new FormatError(`${where}${message} Resume from another checkpoint.`, { cause });
  }
}
