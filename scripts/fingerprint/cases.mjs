// @ts-check
/**
 * What fingerprint.mjs hashes, in Node and in a page alike: each function yields the name of a case and the hash of what a
 * build computes for it. Everything is asked through the package's public entries, and every input is fixed.
 *
 * What JavaScript computes in f64 with Math.pow and Math.cos differs in its last digits from engine to engine. Such numbers are
 * cases of their own, whose names end in "f64".
 */

/** Models with more parameters than this get few cases. */
const LARGE = 20_000_000;

/**
 * @typedef {object} Build A build of the package, as the place where it runs has it.
 * @property {(source: any, options: object) => Promise<any>} loadModel
 * @property {(options: object) => Promise<any>} createTrainer
 * @property {(config: any) => { readonly total: number }} countParameters
 * @property {(trainer: any, names: readonly string[]) => Promise<readonly Uint8Array[]>} save files of what a trainer saves.
 */
/** @typedef {{ readonly device: "wasm" | "reference", readonly threads: number }} Where */
/** @typedef {AsyncGenerator<readonly [name: string, hash: string]>} Cases */

const noSharing = { kind: "none", repeats: 1, cache: "own" };

/** Sharings that one fixture is run with besides its config's. */
const sharings = [
  noSharing,
  { kind: "immediate", repeats: 2, cache: "own" },
  { kind: "immediate", repeats: 2, cache: "first" },
  { kind: "repeat", repeats: 3, cache: "own" },
  { kind: "reverse", repeats: 4, cache: "first" },
];

/**
 * @param {Build} build
 * @param {any} source what loadModel takes.
 * @param {Where & { readonly dtypes: readonly string[], readonly hasSharings: boolean, readonly steps: Steps }} options
 * @returns {Cases}
 */
export async function* casesOf(build, source, { dtypes, hasSharings, steps, ...where }) {
  let isLarge = false;
  for (const dtype of dtypes) {
    for (const sharing of hasSharings ? [undefined, ...sharings] : [undefined]) {
      if (isLarge && dtype === "bf16") continue;
      const model = await build.loadModel(source, { ...where, dtype, sharing });
      isLarge = build.countParameters(model.config).total > LARGE;
      const title = sharing ? `${dtype}, ${sharing.kind} ×${sharing.repeats}, ${sharing.cache}` : dtype;
      yield* prefixed(title, isLarge ? largeModelCases(model) : modelCases(model));
      await model.dispose();
    }
  }
  if (isLarge) yield* largeTrainingCases(build, source, where);
  else yield* trainingCases(build, source, where, steps);
}

/** @param {any} model @returns {Cases} */
async function* modelCases(model) {
  const { contextLength } = model;
  const { vocabSize } = model.config;
  for (const length of [1, 5, 37, Math.min(150, contextLength)]) {
    yield [`logits of ${length}`, await hashBytes(await model.logits(ids(length, length, vocabSize)))];
  }
  const prompt = ids(13, 1, vocabSize);
  yield* textCases("greedy", model, prompt, { temperature: 0, maxTokens: 24 });
  yield* textCases("sampled", model, prompt, { temperature: 0.8, topP: 0.95, seed: 1, maxTokens: 24 });
  if (contextLength <= 256) {
    const full = ids(contextLength - 5, 2, vocabSize);
    yield* textCases("sliding", model, full, { temperature: 0, maxTokens: 12, contextOverflow: "slide" });
  }
  yield ["scores", await hashScores(model)];
  const windows = { window: Math.min(64, contextLength), stride: 24 };
  const { nll, tokens } = await model.perplexity(ids(200, 3, vocabSize), windows);
  yield ["perplexity, f64", await hashJson([nll, tokens])];
}

/** @param {any} model @returns {Cases} */
async function* largeModelCases(model) {
  const { vocabSize } = model.config;
  yield ["logits of 40", await hashBytes(await model.logits(ids(40, 40, vocabSize)))];
  yield* textCases("greedy", model, ids(13, 1, vocabSize), { temperature: 0, maxTokens: 16 });
  yield ["scores", await hashScores(model)];
}

/**
 * How many steps each optimizer takes.
 * @typedef {{ readonly adamw: number, readonly muon: number }} Steps
 */

/** After so many steps a run is hashed, besides its end: a page takes no more. */
const FIRST_STEPS = 10;

/**
 * @param {Build} build
 * @param {any} source
 * @param {Where} where
 * @param {Steps} steps
 * @returns {Cases}
 */
async function* trainingCases(build, source, where, steps) {
  const model = await build.loadModel(source, { ...where, dtype: "f32" });
  const { config } = model;
  for (const kind of /** @type {const} */ (["adamw", "muon"])) {
    for (const recompute of [false, true]) {
      const trainer = await build.createTrainer({ ...where, ...recipe(kind), model: source, recompute });
      const title = `${kind}${recompute ? ", recompute" : ""}`;
      yield* prefixed(title, stepCases(build, trainer, config.vocabSize, steps[kind]));
      await trainer.dispose();
    }
  }

  const fresh = await build.createTrainer({ ...where, ...recipe("adamw"), config, seed: 3 });
  yield* prefixed("from random weights", stepCases(build, fresh, config.vocabSize, FIRST_STEPS));
  await fresh.dispose();

  const prompt = ids(13, 1, config.vocabSize);
  const trainer = await build.createTrainer({ ...where, ...recipe("adamw"), model });
  for (let step = 0; step < 3; step++) await trainer.step(microBatches(step, config.vocabSize));
  yield* textCases("in place, greedy", model, prompt, { temperature: 0, maxTokens: 24 });
  yield ["in place, logits", await hashBytes(await model.logits(prompt))];
  await trainer.dispose();
  await model.dispose();
}

/**
 * @param {Build} build
 * @param {any} trainer
 * @param {number} vocabSize
 * @param {number} count
 * @returns {Cases}
 */
async function* stepCases(build, trainer, vocabSize, count) {
  const rows = microBatches(0, vocabSize)[0];
  const gradients = [...(await trainer.gradients(rows))].sort(byName);
  yield ["gradients", await hashNamed(gradients)];
  const losses = [];
  const learningRates = [];
  for (let step = 1; step <= count; step++) {
    const { loss, gradientNorm, learningRate } = await trainer.step(microBatches(step, vocabSize));
    losses.push([loss, gradientNorm]);
    learningRates.push(learningRate);
    if (step !== FIRST_STEPS && step !== count) continue;
    const [weights, moments] = await build.save(trainer, ["model.safetensors", "optimizer.safetensors"]);
    yield [`${step} steps, losses`, await hashJson(losses)];
    yield [`${step} steps, learning rates, f64`, await hashJson(learningRates)];
    yield [`${step} steps, weights`, await hashNamed(tensorsIn(weights))];
    yield [`${step} steps, moments`, await hashNamed(tensorsIn(moments))];
    const { loss: heldOut, tokens } = await trainer.evaluate(rows);
    yield [`${step} steps, evaluate`, await hashJson([heldOut, tokens])];
  }
}

/**
 * @param {Build} build
 * @param {any} source
 * @param {Where} where
 * @returns {Cases}
 */
async function* largeTrainingCases(build, source, where) {
  const trainer = await build.createTrainer({ ...where, ...recipe("adamw"), model: source, rows: 2, length: 64 });
  const { vocabSize } = trainer.config;
  const losses = [];
  for (let step = 0; step < 2; step++) {
    const rows = [ids(65, 2 * step, vocabSize), ids(65, 2 * step + 1, vocabSize)];
    const { loss, gradientNorm } = await trainer.step([rows]);
    losses.push([loss, gradientNorm]);
  }
  yield ["adamw: 2 steps, losses", await hashJson(losses)];
  const [weights] = await build.save(trainer, ["model.safetensors"]);
  yield ["adamw: 2 steps, weights", await hashNamed(tensorsIn(weights))];
  await trainer.dispose();
}

/** @param {"adamw" | "muon"} kind */
function recipe(kind) {
  return { optimizer: { kind }, schedule: { kind: "cosine", peak: 4e-3, warmupSteps: 4, steps: 60 } };
}

/**
 * Two for a step: rows of several lengths, a masked one among them; step 5 makes the trainer grow.
 * @param {number} step
 * @param {number} vocabSize
 */
function microBatches(step, vocabSize) {
  const row = (length, n) => ids(length, 4 * step + n, vocabSize);
  const learn = Array.from({ length: 20 }, (_, i) => Number(i > 9));
  return [
    [row(33, 0), { tokens: row(20, 1), learn }],
    [row(step === 5 ? 81 : 29, 2), row(7, 3)],
  ];
}

/**
 * Contexts that start alike, continuations of one token and of several.
 * @param {any} model
 */
async function hashScores(model) {
  const { vocabSize } = model.config;
  const [a, b] = [ids(30, 4, vocabSize), ids(12, 5, vocabSize)];
  const pairs = [
    [a, b],
    [a, b.slice(0, 1)],
    [a, a.slice(0, 2)],
    [[...a, ...b.slice(0, 5)], b.slice(5)],
    [[...a.slice(0, 20), ...b], a.slice(20)],
    [b, a],
    [b, a.slice(3, 4)],
    [a.slice(0, 1), b.slice(0, 4)],
  ];
  const scores = await model.score(pairs.map(([context, continuation]) => ({ context, continuation })));
  return hashJson(scores.map(({ logprob, isGreedy, tokenCount }) => [logprob, isGreedy, tokenCount]));
}

/**
 * @param {string} name
 * @param {any} model
 * @param {readonly number[]} prompt
 * @param {object} options
 * @returns {Cases}
 */
async function* textCases(name, model, prompt, options) {
  const tokens = [];
  const logprobs = [];
  for await (const piece of model.generate(prompt, { ...options, ignoreEos: true })) {
    tokens.push(piece.token);
    logprobs.push(piece.logprob);
  }
  yield [name, await hashJson(tokens)];
  yield [`${name}, f64`, await hashJson(logprobs)];
}

/**
 * Token ids that look random and never change.
 * @param {number} count
 * @param {number} seed
 * @param {number} vocabSize
 */
function ids(count, seed, vocabSize) {
  let state = (seed + 1) * 0x9e3779b1;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % vocabSize;
  });
}

/**
 * The tensors of a safetensors file by name, whatever the order in which it holds them.
 * @param {Uint8Array | undefined} file
 * @returns {[string, Uint8Array][]}
 */
function tensorsIn(file) {
  if (!file) throw new Error("fingerprint: what a trainer saves must hold its tensors, got no such file.");
  const start = 8 + Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, start)));
  return Object.entries(header)
    .filter(([name]) => name !== "__metadata__")
    .map(
      ([
        name,
        {
          data_offsets: [from, to],
        },
      ]) => /** @type {[string, Uint8Array]} */ ([name, file.subarray(start + from, start + to)]),
    )
    .sort(byName);
}

/** @param {readonly [string, ...unknown[]]} a @param {readonly [string, ...unknown[]]} b */
function byName([a], [b]) {
  return a < b ? -1 : 1;
}

/** @param {readonly (readonly [string, ArrayBufferView])[]} tensors */
async function hashNamed(tensors) {
  const lines = [];
  for (const [name, values] of tensors) lines.push([name, await hashBytes(values)]);
  return hashJson(lines);
}

/** @param {unknown} value whose numbers JSON gives back to the last bit. */
function hashJson(value) {
  return hashBytes(new TextEncoder().encode(JSON.stringify(value)));
}

/** @param {ArrayBufferView} view */
async function hashBytes({ buffer, byteOffset, byteLength }) {
  const bytes = new Uint8Array(buffer, byteOffset, byteLength);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", /** @type {any} */ (bytes)));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {string} prefix @param {Cases} cases @returns {Cases} */
async function* prefixed(prefix, cases) {
  for await (const [name, hash] of cases) yield [`${prefix}: ${name}`, hash];
}
