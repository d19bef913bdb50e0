/*
 * Twin of quantize.reference.ts: a row of activations to 16-bit values in groups of 32, each with a scale and the sum
 * of its values times that scale (a q4 weight's minimum is multiplied by it).
 * Row: [i16 × Kp][f32 scale × groups][f32 sum × groups], Kp = K rounded up to whole groups; the padding is 0.
 */
/** The nearest whole number, ties to even, of |x| < 2^22: 1.5·2^23 has no room for fractions, and moves it into the low bits. */
function toNearest(x: v128): v128 {
  return i32x4.sub(f32x4.add(x, f32x4.splat(12582912)), i32x4.splat(0x4b400000));
}

export function quantize(
  y: usize, // (T) rows as above
  x: usize, // (T, K)
  K: i32,
  from: i32, // rows
  to: i32,
): void {
  const groups = (K + 31) / 32;
  const rowBytes = <usize>groups * 72;
  for (let t = from; t < to; t++) {
    const row = x + ((<usize>t * <usize>K) << 2);
    const values = y + <usize>t * rowBytes;
    const scales = values + <usize>groups * 64;
    const sums = scales + <usize>groups * 4;
    for (let g = 0; g < groups; g++) {
      const source = row + <usize>g * 128;
      const target = values + <usize>g * 64;
      const count = min(32, K - g * 32);
      let largest: f32 = 0;
      let i = 0;
      if (count == 32) {
        let lanes = f32x4.splat(0);
        for (; i < 32; i += 4) lanes = f32x4.max(lanes, f32x4.abs(v128.load(source + ((<usize>i) << 2))));
        lanes = f32x4.max(lanes, i8x16.shuffle(lanes, lanes, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
        largest = max<f32>(f32x4.extract_lane(lanes, 0), f32x4.extract_lane(lanes, 1));
      }
      for (; i < count; i++) largest = max<f32>(largest, abs<f32>(load<f32>(source + ((<usize>i) << 2))));
      const scale: f32 = largest / <f32>32767;
      const inverse: f32 = largest > 0 ? <f32>32767 / largest : 0;
      let sum: i32 = 0;
      if (count == 32) {
        const factor = f32x4.splat(inverse);
        let lanes = i32x4.splat(0);
        for (let i: usize = 0; i < 4; i++) {
          const a = toNearest(f32x4.mul(v128.load(source + i * 32), factor));
          const b = toNearest(f32x4.mul(v128.load(source + i * 32, 16), factor));
          lanes = i32x4.add(lanes, i32x4.add(a, b));
          v128.store(target + i * 16, i16x8.narrow_i32x4_s(a, b));
        }
        sum =
          i32x4.extract_lane(lanes, 0) +
          i32x4.extract_lane(lanes, 1) +
          i32x4.extract_lane(lanes, 2) +
          i32x4.extract_lane(lanes, 3);
      } else {
        for (let i = 0; i < 32; i++) {
          const q: i32 = i < count ? <i32>nearest<f32>(load<f32>(source + ((<usize>i) << 2)) * inverse) : 0;
          sum += q;
          store<i16>(target + ((<usize>i) << 1), <i16>q);
        }
      }
      store<f32>(scales + ((<usize>g) << 2), scale);
      store<f32>(sums + ((<usize>g) << 2), scale * <f32>sum);
    }
  }
}
