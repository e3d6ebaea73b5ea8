"use strict";

/*
 * From logits to the next token, in the order of lesson 07:
 *
 *     logits -> temperature -> top-k -> top-p -> softmax -> draw
 *
 * Each filter sets what it drops to -Infinity, so that the next one sees only what is left.
 */

const GREEDY_BELOW = 1e-30; // dividing by less could overflow

/** The probabilities (V) from which a token is drawn. topK 0 and topP 1 keep every token. */
function reshape(logits, { temperature = 1, topK = 0, topP = 1 } = {}) {
  const order = bestFirst(logits);
  if (temperature < GREEDY_BELOW) return oneHot(logits.length, order[0]); // greedy
  let kept = order.length;
  if (topK > 0) kept = Math.min(kept, topK); // exactly k
  const scaled = Float64Array.from(order, (id) => logits[id] / temperature); // best first
  if (topP < 1) kept = nucleusSize(softmax(scaled.subarray(0, kept)), topP);
  const probabilities = new Float32Array(logits.length); // 0 for what was dropped
  softmax(scaled.subarray(0, kept)).forEach((p, rank) => {
    probabilities[order[rank]] = p;
  });
  return probabilities;
}

/** All token ids, the most probable first; of equal logits, the lowest id first. */
function bestFirst(logits) {
  const ids = Array.from(logits, (_, id) => id);
  return ids.sort((a, b) => logits[b] - logits[a] || a - b);
}

/** exp(x) / sum exp(x), for numbers that are sorted, the largest first. */
function softmax(sorted) {
  const exps = sorted.map((x) => Math.exp(x - sorted[0]));
  const sum = exps.reduce((total, value) => total + value, 0);
  return exps.map((value) => value / sum);
}

/** How many of the most probable tokens it takes to reach a probability of p together. */
function nucleusSize(probabilities, p) {
  let mass = 0;
  for (let rank = 0; rank < probabilities.length; rank++) {
    mass += probabilities[rank];
    if (mass >= p) return rank + 1; // with the token that reaches p
  }
  return probabilities.length;
}

function oneHot(length, id) {
  const probabilities = new Float32Array(length);
  probabilities[id] = 1;
  return probabilities;
}

/**
 * Draw a token: walk along the probabilities until their sum passes a random number in [0, 1).
 * A token of probability 0 is never drawn.
 */
function sampleFrom(probabilities, random) {
  const point = random();
  let mass = 0;
  let last = 0;
  for (let id = 0; id < probabilities.length; id++) {
    if (probabilities[id] === 0) continue;
    mass += probabilities[id];
    last = id;
    if (point < mass) return id;
  }
  return last; // rounding left the sum a little below 1
}

/** A generator of random numbers in [0, 1): the same seed gives the same ones (mulberry32). */
function makeRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
