// Twin of rope.reference.ts. No fused multiply-add: both halves round as PyTorch's separate products do.

export function rope(
  y: usize, // (T, H·D)
  x: usize, // (T, H·D)
  angles: usize, // (positions, D): D/2 cosines, D/2 sines
  slots: usize, // (T) i32: cache rows, where there are places
  places: usize, // (positions, 3) i32, the last its position; 0: rows of a sequence follow each other
  C: i32, // H·D
  D: i32,
  isInverse: f32, // 1: back
  position: i32, // of a sequence's first row
  length: i32, // rows of a sequence
  from: i32, // rows
  to: i32,
): void {
  const half = (<usize>D) << 1; // bytes
  const sign: f32 = isInverse != 0 ? -1 : 1;
  const signs = f32x4.splat(sign);
  for (let t = from; t < to; t++) {
    const at = places
      ? load<i32>(places + <usize>load<i32>(slots + ((<usize>t) << 2)) * 12, 8)
      : position + (t % length);
    const cos = angles + ((<usize>at * <usize>D) << 2);
    const sin = cos + half;
    let head = (<usize>t * <usize>C) << 2;
    const end = head + ((<usize>C) << 2);
    for (; head < end; head += half << 1) {
      const a = x + head,
        b = a + half;
      const outA = y + head,
        outB = outA + half;
      let i: usize = 0;
      for (; i + 16 <= half; i += 16) {
        const xa = v128.load(a + i),
          xb = v128.load(b + i),
          c = v128.load(cos + i),
          s = f32x4.mul(v128.load(sin + i), signs);
        v128.store(outA + i, f32x4.sub(f32x4.mul(xa, c), f32x4.mul(xb, s)));
        v128.store(outB + i, f32x4.add(f32x4.mul(xb, c), f32x4.mul(xa, s)));
      }
      for (; i < half; i += 4) {
        const xa = load<f32>(a + i),
          xb = load<f32>(b + i),
          c = load<f32>(cos + i),
          s = load<f32>(sin + i) * sign;
        store<f32>(outA + i, xa * c - xb * s);
        store<f32>(outB + i, xb * c + xa * s);
      }
    }
  }
}
