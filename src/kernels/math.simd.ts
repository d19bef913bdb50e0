/** What several kernels need: fused multiply-add, sums across lanes, exp. Pointers are bytes. */

/** a·b + c: fused in the relaxed build, rounded twice in the plain one. */
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c); // resolved at compile time
  return f32x4.add(f32x4.mul(a, b), c);
}

/** (a0 + a2) + (a1 + a3): one order for every caller. */
export function sum4(a: v128): f32 {
  const pairs = f32x4.add(a, i8x16.shuffle(a, a, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
  return f32x4.extract_lane(pairs, 0) + f32x4.extract_lane(pairs, 1);
}

/**
 * exp, within 2 units in the last place: x = n·ln 2 + r, then a polynomial for e^r and n into the exponent
 * (Cephes expf, S. Moshier). Below -87.3 it gives 0 or the smallest normal number; of NaN, NaN. One instruction each: pmin and pmax, where
 * min, max and trunc_sat take about eight for the sake of NaN and zeros, and 1.5·2²³, which rounds what is added to it and keeps it as its last bits.
 */
export function exp4(x: v128): v128 {
  x = f32x4.pmax(f32x4.pmin(x, f32x4.splat(88.02)), f32x4.splat(-87.33));
  const shifted = f32x4.add(f32x4.mul(x, f32x4.splat(1.44269504088896341)), f32x4.splat(12582912));
  const n = f32x4.sub(shifted, f32x4.splat(12582912));
  // ln 2 in two parts, the first exact in few bits, so that the subtraction loses nothing
  const r = madd(n, f32x4.splat(2.1219444e-4), madd(n, f32x4.splat(-0.693359375), x));
  let p = f32x4.splat(1.98756915e-4);
  p = madd(p, r, f32x4.splat(1.3981999507e-3));
  p = madd(p, r, f32x4.splat(8.3334519073e-3));
  p = madd(p, r, f32x4.splat(4.1665795894e-2));
  p = madd(p, r, f32x4.splat(1.6666665459e-1));
  p = madd(p, r, f32x4.splat(5.0000001201e-1));
  p = f32x4.add(madd(f32x4.mul(p, r), r, r), f32x4.splat(1));
  return f32x4.mul(p, i32x4.add(i32x4.shl(shifted, 23), i32x4.splat(0x3f800000)));
}

/** exp of one number, equal to a lane of `exp4`. */
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

/** Four f16 numbers, finite, as f32: move the bits into place, then 2^112 corrects the exponent's bias. */
export function f16x4(pointer: usize): v128 {
  const bits = v128.and(i32x4.shl(v128.load16x4_s(pointer), 13), i32x4.splat(0x8fffe000));
  return f32x4.mul(bits, f32x4.splat(5192296858534827628530496329220096.0));
}

/** The largest of `count` numbers, at least one. */
export function largestOf(row: usize, count: i32): f32 {
  const end = row + ((<usize>count) << 2);
  let most = f32x4.splat(load<f32>(row));
  for (; row + 16 <= end; row += 16) most = f32x4.pmax(most, v128.load(row));
  let largest = max4(most);
  for (; row < end; row += 4) largest = max<f32>(largest, load<f32>(row));
  return largest;
}

export function max4(a: v128): f32 {
  return max<f32>(
    max<f32>(f32x4.extract_lane(a, 0), f32x4.extract_lane(a, 1)),
    max<f32>(f32x4.extract_lane(a, 2), f32x4.extract_lane(a, 3)),
  );
}

/** Natural logarithm of a positive, normal number, within 2 units in the last place (Cephes logf, S. Moshier). */
export function log1(x: f32): f32 {
  // AssemblyScript's own Math.log keeps tables in the memory that is ours to lay out.
  const bits = reinterpret<i32>(x);
  let e = (bits >> 23) - 126;
  let m = reinterpret<f32>((bits & 0x007fffff) | 0x3f000000); // 0.5 … 1
  if (m < <f32>0.707106781186547524) {
    e--;
    m += m;
  }
  m -= 1;
  const z = m * m;
  let p: f32 = 7.0376836292e-2;
  p = p * m - <f32>1.151461031e-1;
  p = p * m + <f32>1.167699874e-1;
  p = p * m - <f32>1.2420140846e-1;
  p = p * m + <f32>1.4249322787e-1;
  p = p * m - <f32>1.6668057665e-1;
  p = p * m + <f32>2.0000714765e-1;
  p = p * m - <f32>2.4999993993e-1;
  p = p * m + <f32>3.3333331174e-1;
  let y = p * m * z + <f32>e * <f32>-2.1219444e-4;
  y -= z * <f32>0.5;
  return m + y + <f32>e * <f32>0.693359375;
}
