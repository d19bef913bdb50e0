import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ChatMessage } from "../../tokenizer/chat-template.ts";
import { createTokenizer } from "../../tokenizer/create-tokenizer.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { createBpeTrainer } from "../../tokenizer/train-bpe.ts";
import { chatRows, encodeConversation, type EncodedConversation } from "./chat-rows.ts";

const CHATML =
  "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const PLAIN =
  "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

function chatMl(): Tokenizer {
  const trainer = createBpeTrainer({
    vocabSize: 300,
    specialTokens: ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
  });
  for (let i = 0; i < 3; i++) trainer.add("user assistant system\nWhere does the river go? To the sea, everywhere.");
  const { tokenizerJson, tokenizerConfig } = trainer.train();
  const bytes = new TextEncoder().encode(JSON.stringify(tokenizerJson));
  return createTokenizer({
    kind: "files",
    tokenizerJson: bytes,
    config: { ...tokenizerConfig, chat_template: CHATML },
  })!;
}

function sentencePiece(): Tokenizer {
  const url = new URL("../../../test/fixtures/tokenizer/sp-fallback.model", import.meta.url);
  return createTokenizer({
    kind: "files",
    sentencePieceModel: new Uint8Array(readFileSync(url)),
    config: { chat_template: PLAIN, add_bos_token: false },
  })!;
}

const messages: ChatMessage[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "Where does the river go?" },
  { role: "assistant", content: "To the sea 🌊." },
  { role: "user", content: "And the sea?" },
  { role: "assistant", content: "everywhere" },
];

/** The texts that are learned. */
function learned(tokenizer: Tokenizer, { tokens, learn }: EncodedConversation): string[] {
  const runs: number[][] = [];
  for (const [i, token] of tokens.entries()) {
    if (learn[i] !== 1) continue;
    if (i === 0 || learn[i - 1] !== 1) runs.push([]);
    runs.at(-1)!.push(token);
  }
  return runs.map((run) => tokenizer.decode(run));
}

describe("encodeConversation", () => {
  it("learns what the assistant says, and to end its turn, and nothing else", () => {
    const tokenizer = chatMl();
    const conversation = encodeConversation(tokenizer, messages);
    expect(learned(tokenizer, conversation)).toEqual(["To the sea 🌊.<|im_end|>", "everywhere<|im_end|>"]);
    expect(conversation.tokens).toEqual(tokenizer.encode(tokenizer.renderChat(messages), { addBos: false }));
  });

  it("begins to learn where a prompt for generating ends, token for token", () => {
    const tokenizer = chatMl();
    const { tokens, learn } = encodeConversation(tokenizer, messages.slice(0, 3));
    const prompt = tokenizer.encode(tokenizer.renderChat(messages.slice(0, 2), { addGenerationPrompt: true }));
    expect(learn.indexOf(1)).toBe(prompt.length);
    expect(tokens.slice(0, prompt.length)).toEqual(prompt);
  });

  it("finds the turns without special tokens too, in a SentencePiece vocabulary", () => {
    const tokenizer = sentencePiece();
    const texts = learned(tokenizer, encodeConversation(tokenizer, messages)).map((text) => text.trim());
    expect(texts).toEqual(["To the sea 🌊.", "everywhere"]);
  });

  it("learns nothing where the assistant says nothing", () => {
    expect(encodeConversation(chatMl(), messages.slice(0, 2)).learn).not.toContain(1);
  });
});

describe("chatRows", () => {
  const conversation = (first: number, size: number): EncodedConversation => ({
    tokens: Array.from({ length: size }, (_, i) => first + i),
    learn: Array.from({ length: size }, (_, i) => (i >= 2 ? 1 : 0)),
  });
  const all = [conversation(10, 4), conversation(20, 3), conversation(30, 9), conversation(40, 2), conversation(50, 3)];
  const shown = (packing: "pad" | "pack"): { rows: string[]; targets: number; cut: number } => {
    const { rows, targets, cut } = chatRows(all, { length: 7, packing, paddingToken: 0 });
    return {
      rows: rows.map(({ tokens, learn }) => `${Array.from(tokens).join(",")} ${Array.from(learn).join("")}`),
      targets,
      cut,
    };
  };

  it("pads each conversation to a row, cuts what is longer, leaves out what teaches nothing", () => {
    expect(shown("pad")).toEqual({
      rows: [
        "10,11,12,13,0,0,0,0 00110000",
        "20,21,22,0,0,0,0,0 00100000",
        "30,31,32,33,34,35,36,37 00111111",
        "50,51,52,0,0,0,0,0 00100000",
      ],
      targets: 10,
      cut: 1,
    });
  });

  it("packs whole conversations", () => {
    expect(shown("pack")).toEqual({
      rows: ["10,11,12,13,20,21,22,0 00110010", "30,31,32,33,34,35,36,37 00111111", "40,41,50,51,52,0,0,0 00001000"],
      targets: 10,
      cut: 1,
    });
  });
});
