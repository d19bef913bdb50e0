// Twin of embed.reference.ts: rows of a table by token id, in each of its forms (layouts: tensor/pack.ts).
import { FORM_BF16, FORM_F32, FORM_Q8, FORM_ROWS } from "../generated/numbers.simd";

/** One f16, finite. */
function f16(pointer: usize): f32 {
  const bits = ((<i32>load<i16>(pointer)) << 13) & 0x8fffe000;
  return reinterpret<f32>(bits) * <f32>5192296858534827628530496329220096.0;
}

export function embed(
  y: usize, // (T, C)
  tokens: usize, // (T) i32
  table: usize, // (V, C)
  C: i32,
  form: i32, // FORM_…
  from: i32, // rows
  to: i32,
): void {
  const groups = (C + 31) / 32;
  for (let t = from; t < to; t++) {
    const token = <usize>load<i32>(tokens + ((<usize>t) << 2));
    const out = y + ((<usize>t * <usize>C) << 2);
    if (form == FORM_ROWS) {
      memory.copy(out, table + ((token * <usize>C) << 2), (<usize>C) << 2);
      continue;
    }
    const lane = token & 7;
    const block = (token >> 3) * <usize>groups;
    const rows = table + (((((token >> 3) * <usize>C) << 3) + lane) << (form == FORM_F32 ? 2 : 1)); // f32 and bf16
    for (let c: usize = 0; c < <usize>C; c++) {
      const i = c & 31;
      let value: f32 = 0;
      if (form == FORM_F32) {
        value = load<f32>(rows + (c << 5));
      } else if (form == FORM_BF16) {
        value = reinterpret<f32>((<u32>load<u16>(rows + (c << 4))) << 16);
      } else if (form == FORM_Q8) {
        const at = table + (block + (c >> 5)) * 272;
        value = <f32>load<i8>(at + 16 + (i >> 1) * 16 + lane * 2 + (i & 1)) * f16(at + lane * 2);
      } else {
        const at = table + (block + (c >> 5)) * 160;
        const pair = i >> 1;
        const word = load<u16>(at + 32 + (pair >> 2) * 32 + (lane >> 2) * 16 + (lane & 3) * 4 + (i & 1) * 2);
        const q = (<u32>word >> (<u32>(pair & 3) * 4)) & 15;
        value = <f32>q * f16(at + lane * 2) + f16(at + 16 + lane * 2);
      }
      store<f32>(out + (c << 2), value);
    }
  }
}
