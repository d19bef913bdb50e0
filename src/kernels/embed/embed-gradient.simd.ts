// Twin of embed-gradient.reference.ts. A thread owns columns: rows of the same token add up in order.

export function embedBack(
  dTable: usize, // (V, C)
  tokens: usize, // (T) i32
  dy: usize, // (T, C)
  C: i32,
  rows: i32,
  from: i32, // columns
  to: i32,
): void {
  const stride = (<usize>C) << 2;
  const start = (<usize>from) << 2,
    end = (<usize>to) << 2;
  for (let t = 0; t < rows; t++) {
    const out = dTable + <usize>load<i32>(tokens + ((<usize>t) << 2)) * stride;
    const d = dy + <usize>t * stride;
    let c = start;
    for (; c + 16 <= end; c += 16) v128.store(out + c, f32x4.add(v128.load(out + c), v128.load(d + c)));
    for (; c < end; c += 4) store<f32>(out + c, load<f32>(out + c) + load<f32>(d + c));
  }
}
