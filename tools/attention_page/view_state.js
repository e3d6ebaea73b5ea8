"use strict";
/* What the reader has chosen, and what the model computed for it. Views read it, controls change
   it. */

const state = {
  model: null, // from readEmbedded or readSafetensors
  text: "",
  run: null, // what was computed last, see computeRun
  chosen: 0, // the position of the chosen token
  key: null, // the key that the walk looks at; null: the one with the largest weight
  layer: 0,
  head: 0,
  causal: true,
  headsOff: new Set(), // "layer.head"
  step: 0, // of the walk
  sampling: { temperature: 1, topK: 0, topP: 1 },
  generatedFrom: null, // where generated text begins, in code points
};

/** The weights of the head that is shown, T x T, and how many tokens there are. */
function shownHead() {
  const { result } = state.run;
  return {
    T: result.T,
    weights: result.attention[state.layer][state.head],
    parts: result.heads[state.layer][state.head],
  };
}

/** Row i of the shown head: what token i gives every token. */
function weightRow(i) {
  const { T, weights } = shownHead();
  return Array.from(weights.subarray(i * T, (i + 1) * T));
}

/** The positions of the `count` largest values, largest first. */
function largestFirst(values, count) {
  const order = Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
  return order.slice(0, count);
}

/** The key that the walk shows: the reader's, or the one that gets most of the chosen token. */
function walkKey() {
  const { T } = shownHead();
  if (state.key !== null && state.key < T) return state.key;
  return largestFirst(weightRow(state.chosen), 1)[0];
}

/** "“h” at 4" or "the space at 5", for sentences. */
function tokenAt(i) {
  return `${withArticle("the", state.run.tokens[i])} at ${i}`;
}

/** "“h”", but "a space": characters that have a name get an article. */
function withArticle(article, token) {
  const name = nameToken(token);
  return name.startsWith("“") ? name : `${article} ${name}`;
}

/** headsOff as the forward pass wants it: [[layer, head], ...]. */
function headsOffList() {
  return [...state.headsOff].map((name) => name.split(".").map(Number));
}

/** Softmax of row i of logits (T * V). */
function probabilitiesAt(logits, i, V) {
  return reshape(logits.subarray(i * V, (i + 1) * V), {});
}

/** Ids of a text, cut to the context of the model: the last tokens stay. */
function readText(model, text) {
  const { ids, unknown } = encode(model, text);
  const limit = model.config.max_seq_len;
  const kept = ids.length > limit ? ids.slice(ids.length - limit) : ids;
  return { ids: kept, tokens: decode(model, kept), dropped: ids.length - kept.length, unknown };
}

/** Compute the text of the box; null if a newer request came in meanwhile. */
async function computeRun() {
  const { model, text, causal } = state;
  const read = readText(model, text);
  const off = headsOffList();
  const run = {
    ...read,
    model,
    text,
    causal,
    headsOff: new Set(state.headsOff),
    result: null,
    loss: NaN,
    fullLoss: NaN,
  };
  if (read.ids.length === 0) return run;
  run.result = await computeForward(model, read.ids, { causal, headsOff: off, lens: true });
  if (run.result === null) return null;
  run.loss = textLoss(run.result, read.ids);
  run.fullLoss = run.loss;
  if (off.length > 0) {
    const full = await computeForward(model, read.ids, { causal }); // to compare: with all heads
    if (full === null) return null;
    run.fullLoss = textLoss(full, read.ids);
  }
  return run;
}
