import { describe, expect, test } from "vitest";
import { FormatError } from "../errors.ts";
import { parseHfConfig, writeHfConfig } from "./hf-config.ts";

const smallest = {
  model_type: "llama",
  hidden_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  intermediate_size: 192,
  vocab_size: 320,
};
const parse = (more: object = {}): ReturnType<typeof parseHfConfig> =>
  parseHfConfig({ ...smallest, ...more }, "config.json");

describe("parseHfConfig", () => {
  test("fills in transformers' defaults", () => {
    expect(parse()).toEqual({
      ...smallest,
      num_key_value_heads: 4,
      head_dim: 16,
      max_position_embeddings: 2048,
      rms_norm_eps: 1e-6,
      rope_theta: 10_000,
      hidden_act: "silu",
      isTied: false,
      layer_sharing: false,
      bos_token_id: 1,
      eos_token_ids: [2],
    });
  });

  test("believes share_embedding rather than tie_word_embeddings", () => {
    expect(parse({ share_embedding: true, tie_word_embeddings: false }).isTied).toBe(true);
    expect(parse({ share_embedding: false, tie_word_embeddings: true }).isTied).toBe(false);
    expect(parse({ tie_word_embeddings: true }).isTied).toBe(true);
  });

  test("reads the rotary base where transformers 4 and 5 put it", () => {
    expect(parse({ rope_theta: 5e5 }).rope_theta).toBe(5e5);
    expect(parse({ rope_parameters: { rope_theta: 1e6, rope_type: "default" } }).rope_theta).toBe(1e6);
    expect(parse({ rope_parameters: { rope_theta: 1e6 }, rope_theta: 10_000 }).rope_theta).toBe(1e6);
    expect(parse({ rope_scaling: { rope_type: "default" } }).rope_theta).toBe(10_000);
  });

  test("takes any schedule of shared blocks, and null for none", () => {
    const sharing_schedule = { kind: "reverse", repeats: 3, cache: "first" };
    expect(parse({ sharing_schedule }).sharing_schedule).toEqual(sharing_schedule);
    expect(parse({ sharing_schedule: null }).sharing_schedule).toBeUndefined();
  });

  test.each([
    "reverse",
    [],
    {},
    { kind: "none", repeats: 1, cache: "own" },
    { kind: "reverse", repeats: 5, cache: "own" },
    { kind: "reverse", repeats: "2", cache: "own" },
    { kind: "reverse", repeats: 2 },
    { kind: ["reverse"], repeats: 2, cache: "own" },
  ])("refuses a sharing_schedule of %j", (sharing_schedule) => {
    const rule = "config.json: sharing_schedule must have a kind (immediate, repeat, reverse), repeats from 1 to 4";
    expect(() => parse({ sharing_schedule })).toThrow(FormatError);
    expect(() => parse({ sharing_schedule })).toThrow(rule);
  });

  test("takes one, several or no end tokens", () => {
    expect(parse({ eos_token_id: 7 }).eos_token_ids).toEqual([7]);
    expect(parse({ eos_token_id: [7, 9, 7] }).eos_token_ids).toEqual([7, 9]);
    expect(parse({ eos_token_id: null, bos_token_id: null })).toMatchObject({
      eos_token_ids: [],
      bos_token_id: undefined,
    });
  });

  test("refuses what would silently change results", () => {
    expect(() => parse({ model_type: "gpt2" })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: model_type must be "llama", "mobilellm" or "qwen3", got "gpt2". Other architectures compute something else.]`,
    );
    expect(() => parse({ attention_bias: true })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: attention_bias must be false, got true: biases are not supported.]`,
    );
    expect(() => parse({ partial_rotary_factor: 0.5 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: partial_rotary_factor must be 1, got 0.5: heads turn as a whole.]`,
    );
    expect(() => parse({ mlp_bias: true })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: mlp_bias must be false, got true: biases are not supported.]`,
    );
    expect(() => parse({ hidden_act: "gelu" })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: hidden_act must be "silu" or "relu", got "gelu".]`,
    );
    expect(() => parse({ rope_scaling: { type: "linear", factor: 2 } })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: rope_scaling must be null or of type "default", got "linear": scaled positions are not supported.]`,
    );
    expect(() => parse({ rope_parameters: { rope_type: "llama3" } })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: rope_parameters must be null or of type "default", got "llama3": scaled positions are not supported.]`,
    );
    expect(() => parse({ rope_parameters: { partial_rotary_factor: 0.5 } })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: rope_parameters.partial_rotary_factor must be 1, got 0.5.]`,
    );
    expect(() => parse({ quantization_config: { bits: 4 } })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: quantization_config is not supported. Load the unquantized model and choose a dtype.]`,
    );
  });

  test("refuses sizes that are not whole, positive and possible", () => {
    expect(() => parse({ hidden_size: undefined })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: hidden_size must be a whole number from 1 to 65536, got undefined.]`,
    );
    expect(() => parse({ num_hidden_layers: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: num_hidden_layers must be a whole number from 1 to 1024, got 0.]`,
    );
    expect(() => parse({ vocab_size: 1e12 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: vocab_size must be a whole number from 1 to 4194304, got 1000000000000.]`,
    );
    expect(() => parse({ intermediate_size: "192" })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: intermediate_size must be a whole number from 1 to 1048576, got "192".]`,
    );
    expect(() => parse({ num_key_value_heads: 3 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: num_key_value_heads must divide num_attention_heads (4), got 3.]`,
    );
    expect(() => parse({ num_attention_heads: 5 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: without head_dim, num_attention_heads must divide hidden_size (64), got 5.]`,
    );
    expect(() => parse({ head_dim: 15 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: head_dim must be even for rotary pairs, got 15.]`,
    );
    expect(() => parse({ rms_norm_eps: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: rms_norm_eps must be a positive number, got 0.]`,
    );
    expect(() => parse({ eos_token_id: [2, 999] })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: eos_token_id must be a token id below vocab_size (320), got 999.]`,
    );
    expect(() => parse({ share_embedding: "yes" })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: share_embedding must be true or false, got "yes".]`,
    );
  });

  test("answers any JSON value in any field with a FormatError or a config", () => {
    const values: unknown[] = [null, true, -1, 0.5, 1e300, "", "x", [], [null], {}, { rope_type: [] }];
    const fields = Object.keys(writeHfConfig(parse(), { rope_parameters: null, share_embedding: null }));
    for (const field of fields) {
      for (const value of values) {
        try {
          parse({ [field]: value });
        } catch (error) {
          expect(error, `${field}: ${JSON.stringify(value)}`).toBeInstanceOf(FormatError);
        }
      }
    }
    for (const value of values) expect(() => parseHfConfig(value, "config.json")).toThrow(FormatError);
  });
});

describe("writeHfConfig", () => {
  test("writes what parseHfConfig reads back", () => {
    for (const more of [
      {},
      { tie_word_embeddings: true },
      { model_type: "mobilellm", layer_sharing: true, share_embedding: true },
      { model_type: "mobilellm", hidden_act: "relu", eos_token_id: [2, 3], bos_token_id: null },
    ]) {
      const config = parse(more);
      expect(parseHfConfig(JSON.parse(JSON.stringify(writeHfConfig(config))), "config.json")).toEqual(config);
    }
  });

  test("calls itself Llama only where Llama computes the same", () => {
    expect(writeHfConfig(parse({ model_type: "mobilellm" }))["architectures"]).toEqual(["LlamaForCausalLM"]);
    expect(writeHfConfig(parse({ layer_sharing: true }))["model_type"]).toBe("mobilellm");
    expect(writeHfConfig(parse({ hidden_act: "relu" }))["model_type"]).toBe("mobilellm");
  });
});
