/** Means and how sure they are. */

/** A number and how sure it is. */
export type Metric = {
  readonly value: number;
  /** The value's standard error; not given for perplexities of whole texts, nor for a single document. */
  readonly stderr?: number;
};

/** Computes the mean and its standard error: the sample's standard deviation (n − 1) over √n. */
export function meanOf(values: readonly number[]): Metric {
  const value = sum(values) / values.length;
  if (values.length < 2) return { value };
  const squares = sum(values.map((x) => (x - value) ** 2));
  return { value, stderr: Math.sqrt(squares / (values.length - 1) / values.length) };
}

/** Computes exp(−mean) of log-likelihoods. The error goes through the exponential to first order; the harness's bootstrap agrees. */
export function perplexityOf(logprobs: readonly number[]): Metric {
  const { value: mean, stderr } = meanOf(logprobs);
  const value = Math.exp(-mean);
  return stderr === undefined ? { value } : { value, stderr: value * stderr };
}

/** Adds numbers up, in their order. */
export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
