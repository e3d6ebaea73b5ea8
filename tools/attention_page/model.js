"use strict";

/*
 * The forward pass of a transformer language model, by hand: from token ids to a score for every
 * possible next token.
 *
 *     x      = token_embedding[ids] (+ position_embedding)                         (T, d_model)
 *     x      = x + attention(norm(x));   x = x + feed_forward(norm(x))             for each block
 *     logits = norm(x) unembedding^T                                               (T, V)
 *
 * It is the model of lesson 05 without any library, and it keeps what it computes on the way, so
 * that the page can show it: queries, keys, values, scores and weights of every head.
 *
 * Dimensions: T tokens, V = vocab_size, d_model features, n_heads heads of d_head features each.
 * A matrix is a Float32Array, row after row: entry (i, j) of an (n, m) matrix is at i * m + j.
 */

/**
 * Run the model on token ids.
 *
 * causal: false lets every token attend to later ones too, which the model never saw in training.
 * headsOff: [[layer, head], ...] are heads whose output is replaced by zeros.
 * lens: true also returns what each layer would predict if the model ended there.
 */
function forward(model, ids, { causal = true, headsOff = [], lens = false } = {}) {
  const { config } = model;
  const T = ids.length;
  checkIds(config, ids);

  // The residual stream: embed the tokens, then let each block add to it.
  let x = embed(model, ids); // (T, d_model)
  const attention = [];
  const heads = [];
  const layers = lens ? [unembed(model, x, T)] : [];
  for (let layer = 0; layer < config.n_layers; layer++) {
    const off = headsOff.filter(([where]) => where === layer).map(([, head]) => head);
    const inside = [];
    x = block(model, `blocks.${layer}`, x, T, { causal, off, inside });
    heads.push(inside);
    attention.push(inside.map((head) => head.weights)); // [layer][head], each (T, T)
    if (lens) layers.push(unembed(model, x, T));
  }
  const logits = unembed(model, x, T); // (T, V)
  return { T, V: config.vocab_size, logits, attention, heads, lens: lens ? layers : null };
}

/** At least one token, at most a whole context of them, and every one in the vocabulary. */
function checkIds(config, ids) {
  if (ids.length < 1 || ids.length > config.max_seq_len) {
    throw new PageError(
      `The model reads 1 to ${config.max_seq_len} tokens at a time, not ${ids.length}.`,
    );
  }
  if (!ids.every((id) => id >= 0 && id < config.vocab_size)) {
    throw new PageError(`Token ids run from 0 to ${config.vocab_size - 1}.`);
  }
}

// --- the ends of the model: from tokens to features, and from features to scores ---

/** Look up a row of features for each token, and add its position if the scheme does that. */
function embed(model, ids) {
  const { config, weights } = model;
  const { d_model, position } = config;
  const table = weights["token_embedding.weight"]; // (V, d_model)
  const x = new Float32Array(ids.length * d_model);
  // Vaswani et al. 2017, section 3.4: without the factor, waves of size 1 would drown the tokens.
  const factor = position === "sinusoidal" ? Math.sqrt(d_model) : 1;
  for (let t = 0; t < ids.length; t++) {
    for (let i = 0; i < d_model; i++) {
      let value = factor * table[ids[t] * d_model + i];
      if (position === "learned") value += weights["position_embedding.weight"][t * d_model + i];
      if (position === "sinusoidal") value += wave(t, i, d_model);
      x[t * d_model + i] = value;
    }
  }
  return x; // RoPE and ALiBi act inside attention
}

/** Sinusoidal positions: sines in the even features, cosines in the odd ones. */
function wave(t, i, d_model) {
  const pair = i - (i % 2); // features 2i and 2i + 1 share a frequency
  const angle = t * 10_000 ** (-pair / d_model);
  return i % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
}

/** logits = norm(x) W^T: compare the features of each position with the row of every token. */
function unembed(model, x, T) {
  const { config, weights } = model;
  const features = config.norm_placement === "pre" ? norm(model, "final_norm", x, T) : x;
  const name = config.tie_weights ? "token_embedding" : "unembedding";
  const table = weights[`${name}.weight`]; // (V, d_model)
  return linear(features, table, undefined, T, config.d_model, config.vocab_size); // (T, V)
}

// --- one block: attention moves information between tokens, then each token is processed alone ---

/** Two sublayers, each with a norm and a residual connection: x (T, d_model) -> the same shape. */
function block(model, name, x, T, options) {
  const attentionOf = (y) => multiHeadAttention(model, `${name}.attention`, y, T, options);
  const feedForwardOf = (y) => feedForward(model, `${name}.feed_forward`, y, T);
  const attentionNorm = (y) => norm(model, `${name}.attention_norm`, y, T);
  const feedForwardNorm = (y) => norm(model, `${name}.feed_forward_norm`, y, T);
  if (model.config.norm_placement === "pre") {
    x = add(x, attentionOf(attentionNorm(x))); // the stream itself is only ever added to
    return add(x, feedForwardOf(feedForwardNorm(x)));
  }
  x = attentionNorm(add(x, attentionOf(x))); // post-norm rescales the stream twice per block
  return feedForwardNorm(add(x, feedForwardOf(x)));
}

/**
 * Several small attentions in parallel, each with weights of its own.
 *
 *     head_h = attention(x W_q[h], x W_k[h], x W_v[h]);    output = concat(head_0, ...) W_o
 *
 * What each head computed is appended to `inside`.
 */
function multiHeadAttention(model, name, x, T, { causal, off, inside }) {
  const { config } = model;
  const { d_model, d_head, n_heads, n_kv_heads } = config;
  // One wide projection for all heads; head h takes slice h of its features.
  const q = project(model, `${name}.q_proj`, x, T, d_model, d_model);
  const k = project(model, `${name}.k_proj`, x, T, d_model, n_kv_heads * d_head);
  const v = project(model, `${name}.v_proj`, x, T, d_model, n_kv_heads * d_head);
  const concatenated = new Float32Array(T * d_model);
  for (let head = 0; head < n_heads; head++) {
    // Grouped-query attention: n_heads / n_kv_heads query heads read the same keys and values.
    const shared = Math.floor(head / (n_heads / n_kv_heads));
    const qHead = place(config, takeHead(q, T, n_heads, head, d_head), T); // (T, d_head)
    const kHead = place(config, takeHead(k, T, n_kv_heads, shared, d_head), T);
    const vHead = takeHead(v, T, n_kv_heads, shared, d_head);
    const slope = config.position === "alibi" ? alibiSlope(head, n_heads) : 0;
    const result = attend(qHead, kHead, vHead, T, d_head, { causal, slope });
    if (off.includes(head)) result.output.fill(0); // a head that is off contributes nothing
    putHead(concatenated, result.output, T, n_heads, head, d_head);
    inside.push({ q: qHead, k: kHead, v: vHead, ...result });
  }
  return project(model, `${name}.out_proj`, concatenated, T, d_model, d_model); // W_o mixes heads
}

/**
 * Scaled dot-product attention of one head: q, k, v (T, d_head).
 *
 *     attention(Q, K, V) = softmax(Q K^T / sqrt(d_head)) V        Vaswani et al. 2017, equation 1
 */
function attend(q, k, v, T, d_head, { causal, slope }) {
  const scores = new Float32Array(T * T); // Q K^T
  const scaled = new Float32Array(T * T); // what the softmax reads, where the mask allows it
  const weights = new Float32Array(T * T); // each row sums to 1
  const output = new Float32Array(T * d_head);
  const scale = 1 / Math.sqrt(d_head); // keeps the variance from growing with d_head
  for (let i = 0; i < T; i++) {
    for (let j = 0; j < T; j++) {
      scores[i * T + j] = dot(q, i * d_head, k, j * d_head, d_head); // how well key j answers i
      scaled[i * T + j] = scores[i * T + j] * scale - slope * Math.abs(i - j); // ALiBi: distance
    }
    // The causal mask: token i attends to itself and to what came before. The weights of later
    // tokens stay exactly 0.
    const visible = causal ? i + 1 : T;
    softmaxRow(scaled, weights, i * T, visible);
    for (let j = 0; j < visible; j++) {
      const weight = weights[i * T + j];
      for (let c = 0; c < d_head; c++) output[i * d_head + c] += weight * v[j * d_head + c];
    }
  }
  return { scores, scaled, weights, output };
}

/** weights = exp(scores) / sum exp(scores), over the `length` entries of one row from `start`. */
function softmaxRow(scores, weights, start, length) {
  let largest = -Infinity; // subtracted, so that exp() cannot overflow; it cancels in the fraction
  for (let j = 0; j < length; j++) largest = Math.max(largest, scores[start + j]);
  let sum = 0;
  for (let j = 0; j < length; j++) {
    weights[start + j] = Math.exp(scores[start + j] - largest);
    sum += weights[start + j];
  }
  for (let j = 0; j < length; j++) weights[start + j] /= sum;
}

// --- positions, where they act inside attention ---

/** What happens to queries and keys between projection and dot product: qk-norm, then RoPE. */
function place(config, x, T) {
  if (config.qk_norm) rmsNormalize(x, T, config.d_head);
  if (config.position === "rope") rotate(x, T, config.d_head);
  return x;
}

/**
 * RoPE: rotate each pair (x[i], x[i + d_head / 2]) by an angle proportional to the position t.
 * The dot product of two rotated vectors depends on their distance only. Changes x.
 */
function rotate(x, T, d_head) {
  const half = d_head / 2;
  for (let i = 0; i < half; i++) {
    const frequency = 10_000 ** ((-2 * i) / d_head); // the first pairs turn fast, the last slowly
    for (let t = 0; t < T; t++) {
      const cos = Math.cos(t * frequency);
      const sin = Math.sin(t * frequency);
      const first = x[t * d_head + i];
      const second = x[t * d_head + i + half];
      x[t * d_head + i] = first * cos - second * sin;
      x[t * d_head + i + half] = second * cos + first * sin;
    }
  }
}

/**
 * ALiBi: what a head subtracts from a score per position of distance, 2^(-8/n) to 2^(-8) for n
 * heads. If n is not a power of two, the other heads take every other slope of the next larger one.
 */
function alibiSlope(head, n_heads) {
  const power = 2 ** Math.floor(Math.log2(n_heads)); // the largest power of two up to n_heads
  const exponent =
    head < power ? (8 * (head + 1)) / power : (4 * (2 * (head - power) + 1)) / power;
  return 2 ** -exponent;
}

// --- the feed-forward network ---

/** W_down activation(W_up x), for each token on its own: x (T, d_model) -> the same shape. */
function feedForward(model, name, x, T) {
  const { d_model, d_ff, activation } = model.config;
  const hidden = project(model, `${name}.up_proj`, x, T, d_model, d_ff); // (T, d_ff)
  if (activation === "swiglu") {
    const gate = project(model, `${name}.gate_proj`, x, T, d_model, d_ff);
    for (let i = 0; i < hidden.length; i++) hidden[i] *= silu(gate[i]); // near 0: shut off
  } else {
    const activate = activation === "relu2" ? reluSquared : gelu;
    for (let i = 0; i < hidden.length; i++) hidden[i] = activate(hidden[i]);
  }
  return project(model, `${name}.down_proj`, hidden, T, d_ff, d_model); // (T, d_model)
}

/** ReLU squared: max(x, 0)^2. */
function reluSquared(x) {
  return x > 0 ? x * x : 0;
}

/** SiLU, the gate of SwiGLU: x sigmoid(x). */
function silu(x) {
  return x / (1 + Math.exp(-x));
}

/** GELU: x Phi(x), with Phi the cumulative distribution of the normal distribution. */
function gelu(x) {
  return 0.5 * x * (1 + erf(x / Math.SQRT2));
}

/* e, d, c, b and a of the formula below. */
const ERF_COEFFICIENTS = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];

/**
 * The error function, which JavaScript lacks, to within 1.5e-7.
 * Abramowitz and Stegun 1964, formula 7.1.26: erf(x) = 1 - (a t + ... + e t^5) exp(-x^2).
 */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  let polynomial = 0; // a t + b t^2 + c t^3 + d t^4 + e t^5, from the inside out
  for (const coefficient of ERF_COEFFICIENTS) polynomial = (polynomial + coefficient) * t;
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
}

// --- norms ---

/** LayerNorm, or RMSNorm, which doesn't centre: x (T, d_model) -> a new matrix of that shape. */
function norm(model, name, x, T) {
  const { d_model, norm: kind } = model.config;
  const weight = model.weights[`${name}.weight`]; // (d_model,), learned
  const bias = model.weights[`${name}.bias`]; // undefined if it has none
  const y = Float32Array.from(x);
  if (kind === "layernorm") center(y, T, d_model);
  rmsNormalize(y, T, d_model); // of centred features, the mean square is the variance
  for (let t = 0; t < T; t++) {
    for (let i = 0; i < d_model; i++) {
      y[t * d_model + i] = y[t * d_model + i] * weight[i] + (bias ? bias[i] : 0);
    }
  }
  return y;
}

/** x - mean(x), for each row of `width` features. Changes x. */
function center(x, T, width) {
  for (let t = 0; t < T; t++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += x[t * width + i];
    for (let i = 0; i < width; i++) x[t * width + i] -= sum / width;
  }
}

/** x / sqrt(mean(x^2) + 1e-5), for each row of `width` features. Changes x. */
function rmsNormalize(x, T, width) {
  for (let t = 0; t < T; t++) {
    const meanSquare = dot(x, t * width, x, t * width, width) / width;
    const factor = 1 / Math.sqrt(meanSquare + 1e-5);
    for (let i = 0; i < width; i++) x[t * width + i] *= factor;
  }
}

// --- linear algebra ---

/** The linear layer of this name: y = x W^T + b. */
function project(model, name, x, T, n_in, n_out) {
  const { weights } = model;
  return linear(x, weights[`${name}.weight`], weights[`${name}.bias`], T, n_in, n_out);
}

/**
 * y = x W^T + b: x (T, n_in), W (n_out, n_in), b (n_out,) or undefined -> y (T, n_out).
 * Each output is the dot product of a token's features with one row of W.
 */
function linear(x, W, b, T, n_in, n_out) {
  const y = new Float32Array(T * n_out);
  let t = 0;
  for (; t + 3 < T; t += 4) fourTokens(y, x, W, b, t, n_in, n_out);
  for (; t < T; t++) {
    for (let o = 0; o < n_out; o++) {
      y[t * n_out + o] = dot(x, t * n_in, W, o * n_in, n_in) + (b ? b[o] : 0);
    }
  }
  return y;
}

/** The same for the tokens t to t + 3. A weight that is read once serves all four: it is faster. */
function fourTokens(y, x, W, b, t, n_in, n_out) {
  const x0 = t * n_in; // where the features of each token start
  const x1 = x0 + n_in;
  const x2 = x1 + n_in;
  const x3 = x2 + n_in;
  for (let o = 0; o < n_out; o++) {
    const bias = b ? b[o] : 0;
    let s0 = bias;
    let s1 = bias;
    let s2 = bias;
    let s3 = bias;
    for (let i = 0; i < n_in; i++) {
      const weight = W[o * n_in + i];
      s0 += x[x0 + i] * weight;
      s1 += x[x1 + i] * weight;
      s2 += x[x2 + i] * weight;
      s3 += x[x3 + i] * weight;
    }
    y[t * n_out + o] = s0;
    y[(t + 1) * n_out + o] = s1;
    y[(t + 2) * n_out + o] = s2;
    y[(t + 3) * n_out + o] = s3;
  }
}

/** The dot product of a[i], a[i + 1], ... and b[j], b[j + 1], ..., over n entries. */
function dot(a, i, b, j, n) {
  // Four sums that don't wait for each other: a processor adds them at the same time.
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  let c = 0;
  for (; c + 3 < n; c += 4) {
    s0 += a[i + c] * b[j + c];
    s1 += a[i + c + 1] * b[j + c + 1];
    s2 += a[i + c + 2] * b[j + c + 2];
    s3 += a[i + c + 3] * b[j + c + 3];
  }
  for (; c < n; c++) s0 += a[i + c] * b[j + c]; // the rest, if n is not a multiple of four
  return s0 + s1 + s2 + s3;
}

/** The sum of two matrices of the same shape. */
function add(x, y) {
  return x.map((value, i) => value + y[i]);
}

/** Slice `head` of the features: x (T, n_heads * d_head) -> a new (T, d_head). */
function takeHead(x, T, n_heads, head, d_head) {
  const slice = new Float32Array(T * d_head);
  for (let t = 0; t < T; t++) {
    const from = (t * n_heads + head) * d_head;
    slice.set(x.subarray(from, from + d_head), t * d_head);
  }
  return slice;
}

/** The inverse of takeHead: write (T, d_head) into its slice of x (T, n_heads * d_head). */
function putHead(x, slice, T, n_heads, head, d_head) {
  for (let t = 0; t < T; t++) {
    x.set(slice.subarray(t * d_head, (t + 1) * d_head), (t * n_heads + head) * d_head);
  }
}

// --- how good are the predictions? ---

/** The mean over positions of -log p(next token), in nats; NaN for fewer than two tokens. */
function textLoss(result, ids) {
  const { T, V, logits } = result;
  let sum = 0;
  for (let t = 0; t + 1 < T; t++) {
    // -log softmax(logits)[next] = log sum exp(logits) - logits[next]
    sum += logSumExp(logits, t * V, V) - logits[t * V + ids[t + 1]];
  }
  return T < 2 ? NaN : sum / (T - 1);
}

/** log(exp(x[start]) + ... over `length` entries), without overflow. */
function logSumExp(x, start, length) {
  let largest = -Infinity;
  for (let i = 0; i < length; i++) largest = Math.max(largest, x[start + i]);
  let sum = 0;
  for (let i = 0; i < length; i++) sum += Math.exp(x[start + i] - largest);
  return largest + Math.log(sum);
}
