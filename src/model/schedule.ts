/**
 * Layer sharing as data: the order in which blocks are applied (paper, Table 2). Everything that runs a model walks this
 * list; nothing else knows about sharing.
 */
import type { ModelConfig } from "./config.ts";

/** One application of a block. */
export type Application = {
  /** Index of the block whose weights are used. */
  readonly block: number;
  /** Slot of the key/value cache that this application attends to. */
  readonly cacheSlot: number;
  /** Whether it computes and stores keys and values there, or only reads them. */
  readonly writesCache: boolean;
};

/** `immediate` 0,0,1,1,… · `repeat` 0…L-1,0…L-1 · `reverse` 0…L-1,L-1…0. */
export function createSchedule(config: Pick<ModelConfig, "layers" | "sharing">): Application[] {
  const { layers, sharing } = config;
  const blocks = Array.from({ length: layers }, (_, block) => block);
  const passes = Array.from({ length: sharing.repeats }, (_, pass) => pass);
  const order =
    sharing.kind === "immediate"
      ? blocks.flatMap((block) => passes.map(() => block))
      : passes.flatMap((pass) => (sharing.kind === "reverse" && pass % 2 === 1 ? blocks.toReversed() : blocks));
  if (sharing.cache === "own") {
    return order.map((block, application) => ({ block, cacheSlot: application, writesCache: true }));
  }
  // Twin applications read the keys and values of the first: one slot a block.
  return order.map((block, application) => ({
    block,
    cacheSlot: block,
    writesCache: order.indexOf(block) === application,
  }));
}

/** Key/value slots that a schedule needs; each holds `contextLength` × kvHeads × headSize keys and as many values. */
export function countCacheSlots(schedule: readonly Application[]): number {
  return new Set(schedule.map((application) => application.cacheSlot)).size;
}
