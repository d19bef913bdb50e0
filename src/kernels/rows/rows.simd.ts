// Twins of rows.reference.ts.

export function storeRows(
  cache: usize, // (positions, C)
  x: usize, // (T, C)
  slots: usize, // (T) i32; 0: rows from `position` on
  C: i32,
  position: i32,
  from: i32, // rows
  to: i32,
): void {
  const bytes = (<usize>C) << 2;
  for (let t = from; t < to; t++) {
    const slot = slots ? load<i32>(slots + ((<usize>t) << 2)) : position + t;
    memory.copy(cache + <usize>slot * bytes, x + <usize>t * bytes, bytes);
  }
}

export function pickRows(
  y: usize, // (N, C)
  x: usize, // (T, C)
  rows: usize, // (N) i32
  C: i32,
  from: i32, // rows of y
  to: i32,
): void {
  const bytes = (<usize>C) << 2;
  for (let n = from; n < to; n++) {
    memory.copy(y + <usize>n * bytes, x + <usize>load<i32>(rows + ((<usize>n) << 2)) * bytes, bytes);
  }
}
