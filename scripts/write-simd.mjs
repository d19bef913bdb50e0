// @ts-check
/** What AssemblyScript needs to know of declarations: numbers and words by name, and the call of each kernel in the command loop. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * @typedef {import("../src/kernels/kernel.ts").Kernel} Kernel
 * @typedef {typeof import("../src/backends/wasm/layout.ts") & typeof import("../src/backends/wasm/header.ts")} Layout
 */

/** @param {string} src @param {readonly Kernel[]} kernels @param {Layout} layout */
export function writeSimdSources(src, kernels, layout) {
  const made = (/** @type {string} */ of) => `// Made by scripts/write-simd.mjs from ${of}.\n`;
  write(join(src, "kernels/generated/numbers.simd.ts"), made("backends/wasm/layout.ts") + numbers(layout));
  write(
    join(src, "backends/wasm/generated/words.simd.ts"),
    made("backends/wasm/header.ts and layout.ts") + words(layout),
  );
  write(
    join(src, "backends/wasm/generated/commands.simd.ts"),
    made("the kernels' declarations") + calls(kernels, layout.commandWord.operands),
  );
}

/** @param {string} path @param {string} text */
function write(path, text) {
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, text);
}

/** @param {string} name in camel case */
const constantName = (name) => name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase();

/** @param {Layout} layout */
function numbers({ sharedNumbers }) {
  return Object.entries(sharedNumbers)
    .flatMap(([prefix, values]) =>
      Object.entries(values).map(([name, value]) => `export const ${prefix}_${constantName(name)}: i32 = ${value};\n`),
    )
    .join("");
}

/** @param {Layout} layout */
function words({ header, commandWord, COMMAND_WORDS, rowsWord }) {
  const { opcode, barrier, rows, taken } = commandWord;
  const offsets = { ...header, commandBytes: COMMAND_WORDS * 4 };
  const ofCommand = { opcode: opcode * 4, barrier: barrier * 4, rows: rows * 4, taken: taken * 4 };
  return [
    ...Object.entries({ ...offsets, ...ofCommand }).map(
      ([name, value]) => `export const ${constantName(name)}: usize = ${value};\n`,
    ),
    ...Object.entries(rowsWord).map(([name, value]) => `export const ROWS_${constantName(name)}: i32 = ${value};\n`),
  ].join("");
}

/** @param {readonly Kernel[]} kernels @param {number} firstWord of a command's operands */
function calls(kernels, firstWord) {
  const files = new Map();
  for (const { file, name } of kernels) files.set(file, [...(files.get(file) ?? []), name]);
  const imports = [...files].map(
    ([file, names]) => `import { ${names.join(", ")} } from "../../../kernels/${file}.simd";`,
  );
  const cases = kernels.map(
    (kernel, opcode) => `    case ${opcode}: {\n${call(kernel, firstWord)}      break;\n    }\n`,
  );
  return `${imports.join("\n")}
import { first, last, sequences, share, stepOf, take } from "../../../kernels/share.simd";
import { OPCODE, TAKEN } from "./words.simd";

function word(command: usize, index: usize): i32 {
  return load<i32>(command + (index << 2));
}

function float(command: usize, index: usize): f32 {
  return load<f32>(command + (index << 2));
}

function pointer(command: usize, index: usize): usize {
  return <usize>load<u32>(command + (index << 2));
}

export function carryOut(command: usize, rows: i32, position: i32, length: i32, scratch: usize): void {
  switch (load<i32>(command + OPCODE)) {
${cases.join("")}  }
}
`;
}

/** @param {Kernel} kernel @param {number} firstWord */
function call({ name, operands, sizes, counts = {}, settings, runtime, divide }, firstWord) {
  let at = firstWord;
  const pointers = Object.keys(operands).map(() => `pointer(command, ${at++})`);
  /** @type {Map<string, string>} */
  const factors = new Map([
    ["rows", "rows"],
    ["sequences", "sequences(rows, length)"],
  ]);
  for (const size of [...Object.keys(sizes), ...Object.keys(counts)]) factors.set(size, `word(command, ${at++})`);
  const given = [
    ...pointers,
    ...Object.keys(sizes).map((size) => factors.get(size)),
    ...settings.map(() => `float(command, ${at++})`),
    ...runtime.map((number) => (number === "taken" ? "command + TAKEN" : number)),
  ];
  if (divide === "itself") return `      ${name}(${given.join(", ")});\n`;
  const units = ("share" in divide ? divide.share : divide.take).map((factor) => factors.get(factor)).join(" * ");
  const piece = `${name}(${[...given, "first", "last"].join(", ")});\n`;
  if ("share" in divide) return `      share(${units}, ${divide.run ?? 1});\n      ${piece}`;
  const step = divide.atOnce === "one" ? "1" : `stepOf(units)`;
  return `      const units = ${units};\n      const step = ${step};\n      while (take(command + TAKEN, units, step)) ${piece}`;
}
