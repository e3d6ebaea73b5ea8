"use strict";
/* One attention, step by step: the numbers of each step, from what the forward pass kept.
   i is the chosen token (the query), j the key that the reader looks at. */

/** Row `i` of a matrix with `width` columns, as a list. */
function rowOf(matrix, i, width) {
  return Array.from(matrix.subarray(i * width, (i + 1) * width));
}

/** Everything the steps show. */
function walkNumbers() {
  const { T, weights, parts } = shownHead();
  const i = state.chosen;
  const j = walkKey();
  const width = state.model.config.d_head;
  const visible = state.run.causal ? i + 1 : T;
  const scaled = rowOf(parts.scaled, i, T);
  const largest = Math.max(...scaled.slice(0, visible));
  const exponentials = scaled.map((score, key) => (key < visible ? Math.exp(score - largest) : 0));
  return {
    i,
    j,
    T,
    width,
    visible,
    scaled,
    largest,
    exponentials,
    query: rowOf(parts.q, i, width),
    key: rowOf(parts.k, j, width),
    value: rowOf(parts.v, j, width),
    values: Array.from({ length: T }, (_, key) => rowOf(parts.v, key, width)),
    scores: rowOf(parts.scores, i, T),
    weights: rowOf(weights, i, T),
    output: rowOf(parts.output, i, width),
    sum: exponentials.reduce((total, value) => total + value, 0),
    off: state.run.headsOff.has(`${state.layer}.${state.head}`),
  };
}

/** The keys that a table shows: the one looked at and those with the largest weights, in order. */
function keysToShow(numbers, count) {
  const best = largestFirst(numbers.weights, count);
  const later = numbers.visible < numbers.T ? [numbers.visible] : []; // one masked key, to see it
  const shown = new Set([numbers.j, ...best.slice(0, count - 1), ...later]);
  return [...shown].sort((a, b) => a - b);
}

/** The numbers of a sum that are not shown one by one. */
function restOf(terms, shownKeys) {
  const shown = new Set(shownKeys);
  return terms.reduce((sum, term, key) => (shown.has(key) ? sum : sum + term), 0);
}

/** What x is: the vector that this layer's attention reads for token i. */
function vectorNote(i) {
  const { norm, norm_placement } = state.model.config;
  const name = norm === "layernorm" ? "LayerNorm" : "RMSNorm";
  return norm_placement === "pre"
    ? `The vector of ${tokenAt(i)} first passes the ${name} of this layer, which gives x.`
    : `Here x is the vector of ${tokenAt(i)} as it enters this layer.`;
}

/** The projection that makes "q", "k" or "v" of x. */
function projection(letter) {
  return `${letter} = x W_${letter}${state.model.config.bias ? ` + b_${letter}` : ""}`;
}

/** What happens to queries and keys afterwards. The cells show the result. */
function placeNote(config) {
  const notes = [];
  if (config.qk_norm) notes.push("normalized (qk-norm)");
  if (config.position === "rope") notes.push("rotated by its position (RoPE)");
  return notes.length > 0 ? `, then ${notes.join(" and ")}` : "";
}
