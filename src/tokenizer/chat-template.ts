import { Template } from "@huggingface/jinja";

import { FormatError, oneLine } from "../errors.ts";

/** One turn of a conversation; `role` is mostly `system`, `user` or `assistant`. */
export type ChatMessage = { readonly role: string; readonly content: string };
/** How a conversation is rendered; `addGenerationPrompt` ends it with the start of an answer. Default: false. */
export type ChatOptions = { readonly addGenerationPrompt?: boolean | undefined };

/** Compiles a chat template when it is first used: most runs never chat. */
export function createChatRenderer(
  source: string,
  variables: Readonly<Record<string, string>>,
  name: string,
): (messages: readonly ChatMessage[], options?: ChatOptions) => string {
  let template: Template | undefined;
  return (messages, options = {}) => {
    try {
      template ??= new Template(source);
    } catch (cause) {
      throw new FormatError(`${name}: the chat template can't be read: ${messageOf(cause)}`, { cause });
    }
    try {
      return template.render({
        ...variables,
        messages,
        add_generation_prompt: options.addGenerationPrompt ?? false,
      });
    } catch (cause) {
      throw new TypeError(oneLine(`renderChat: the chat template refused the messages: ${messageOf(cause)}`), {
        cause,
      });
    }
  };
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
