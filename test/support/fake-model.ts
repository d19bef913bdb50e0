/** A model without weights for what stands on top of inference: a token for each UTF-16 unit, logits from a hash. */
import { createSession } from "../../src/inference/session.ts";
import { logits } from "../../src/inference/score.ts";
import { createGenerate, type Model } from "../../src/inference/model.ts";
import { presets } from "../../src/model/config.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { createFakeRunner, type FakeRunner } from "./fake-runner.ts";

/** @param vocabSize units below this have a token; the last is an eos token. */
export function createFakeModel({ contextLength = 4096, vocabSize = 1 << 16 } = {}): {
  model: Model;
  runner: FakeRunner;
} {
  const runner = createFakeRunner({ vocabSize, contextLength, maxTokens: 512, maxOutputs: 512 });
  const eosToken = vocabSize - 1;
  const decode = (tokens: ArrayLike<number>): string =>
    String.fromCharCode(...Array.from(tokens).filter((token) => token !== eosToken));
  const tokenizer = {
    vocabSize,
    bosToken: undefined,
    eosTokens: [eosToken],
    encode: (text: string) => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)),
    decode,
    createDecoder: () => ({ push: (token: number) => decode([token]), end: () => "" }),
  } as unknown as Tokenizer;
  const session = createSession(runner, { fingerprint: "fake", eosTokens: [eosToken] });
  const model = {
    name: "fake",
    dtype: "f32",
    description: "none",
    config: { ...presets["125M"], vocabSize },
    contextLength,
    tokenizer,
    session,
    generate: createGenerate(session, tokenizer),
    logits: (tokens: ArrayLike<number>) => logits(session, tokens),
  } as Pick<
    Model,
    "name" | "dtype" | "description" | "config" | "contextLength" | "tokenizer" | "session" | "generate"
  > as Model;
  return { model, runner };
}
