/** Rows of a task into what is asked of the model, string for string what the harness asks. */
import type { ExampleSampler } from "./few-shot.ts";
import type { Row } from "./row.ts";
import type { ChoiceDocument, GenerateDocument, LikelihoodDocument, RollingDocument, Task } from "./task.ts";

export type TextPair = { readonly context: string; readonly continuation: string };

/** A document and its requests. */
export type Item =
  | (ItemBase & {
      readonly kind: "choice";
      readonly document: ChoiceDocument;
      readonly requests: readonly TextPair[];
      /** Each choice after "Answer:" alone (LLaMA's rule). */
      readonly unconditional: readonly TextPair[];
    })
  | (ItemBase & { readonly kind: "likelihood"; readonly document: LikelihoodDocument; readonly request: TextPair })
  | (ItemBase & { readonly kind: "generate"; readonly document: GenerateDocument; readonly context: string })
  | (ItemBase & { readonly kind: "rolling"; readonly document: RollingDocument });

type ItemBase = { readonly id: string };

const UNCONDITIONAL_CONTEXT = "Answer:";

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
        const contexts = document.choices.map((_, i) => before + contextOf(document, i));
        return {
          kind: "choice",
          id,
          document,
          requests: document.choices.map((choice, i) => ({ context: contexts[i]!, continuation: ` ${choice}` })),
          unconditional: document.choices.map((choice) => ({
            context: UNCONDITIONAL_CONTEXT,
            continuation: ` ${choice}`,
          })),
        };
      }
      case "likelihood": {
        const document = task.document(row);
        const { context, continuation } = document;
        return { kind: "likelihood", id, document, request: { context: before + context, continuation } };
      }
      case "generate": {
        const document = task.document(row);
        return { kind: "generate", id, document, context: before + document.context };
      }
      case "rolling":
        return { kind: "rolling", id, document: task.document(row) };
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
