/** Rows of a task into what is asked of the model, string for string what the harness asks. */
import type { ExampleSampler } from "./few-shot.ts";
import type { Row } from "./row.ts";
import type { ChoiceDocument, ChoiceTask, GenerateTask, LikelihoodTask, RollingTask, Task } from "./task.ts";

/** A text and what may follow it. */
export type TextPair = { readonly context: string; readonly continuation: string };

/** A document of a task and what is asked about it. */
export type Item = ChoiceItem | LikelihoodItem | GenerateItem | RollingItem;

/** A question whose answer is the likeliest of several continuations. */
export type ChoiceItem = ItemOf<ChoiceTask> & {
  readonly requests: readonly TextPair[];
  /** Each choice after "Answer:" alone (LLaMA's rule). */
  readonly unconditional: readonly TextPair[];
};
/** A text whose continuation is given. */
export type LikelihoodItem = ItemOf<LikelihoodTask> & { readonly request: TextPair };
/** A question whose answer the model writes. */
export type GenerateItem = ItemOf<GenerateTask> & { readonly context: string };
/** A whole text. */
export type RollingItem = ItemOf<RollingTask>;

type ItemOf<T extends Task> = {
  readonly kind: T["kind"];
  /** The row's own, else the task's name and the row's number. */
  readonly id: string;
  readonly task: T;
  readonly document: ReturnType<T["document"]>;
};

const UNCONDITIONAL_CONTEXT = "Answer:";

/** Makes an item of each row, with `fewShot` solved examples before its context. */
export function createItems(
  task: Task,
  rows: readonly Row[],
  examples: ExampleSampler,
  fewShot: number,
): readonly Item[] {
  return rows.map((row, index) => {
    const id = row.has("id", "question_id")
      ? String(row.fields["id"] ?? row.fields["question_id"])
      : `${task.name}/${index}`;
    const before =
      (task.description ?? "") +
      examples
        .draw(row, fewShot)
        .map((example) => writeExample(task, example))
        .join("");
    switch (task.kind) {
      case "choice": {
        const document = task.document(row);
        return {
          kind: "choice",
          id,
          task,
          document,
          requests: document.choices.map((choice, i) => ({
            context: before + contextOf(document, i),
            continuation: ` ${choice}`,
          })),
          unconditional: document.choices.map((choice) => ({
            context: UNCONDITIONAL_CONTEXT,
            continuation: ` ${choice}`,
          })),
        };
      }
      case "likelihood": {
        const document = task.document(row);
        const { context, continuation } = document;
        return { kind: "likelihood", id, task, document, request: { context: before + context, continuation } };
      }
      case "generate": {
        const document = task.document(row);
        return { kind: "generate", id, task, document, context: before + document.context };
      }
      case "rolling":
        return { kind: "rolling", id, task, document: task.document(row) };
    }
  });
}

function contextOf({ context }: ChoiceDocument, choice: number): string {
  return typeof context === "string" ? context : context[choice]!;
}

/** A solved document and the delimiter after it. */
function writeExample(task: Task, row: Row): string {
  const end = task.exampleDelimiter ?? "\n\n";
  switch (task.kind) {
    case "choice": {
      const document = task.document(row);
      return `${contextOf(document, document.gold)} ${document.choices[document.gold]!}${end}`;
    }
    case "likelihood": {
      const { context, continuation } = task.document(row);
      return `${context} ${continuation}${end}`;
    }
    case "generate": {
      const { context, references } = task.document(row);
      return `${context} ${references[0] ?? ""}${end}`;
    }
    case "rolling":
      return task.document(row).text + end;
  }
}
