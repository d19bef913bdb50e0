/** Oracles take either, so that central differences can check a gradient in f64. */
export type Floats = Float32Array | Float64Array;
